"""The account of an answer: a pure function of the numbers, line by line."""

from __future__ import annotations

import pytest

from ensemble_kit.explaining.account import WIDTH, Account, Question, Said, against, number, sentences, text


def said(short: str, probs: dict[str, float], votes: list[str] | None = None, **more: object) -> Said:
    name = f"age given mask={short}" if short else "age"
    named = {f"fold{n}": one for n, one in enumerate(votes or [])}
    return Said(name, short, more.pop("share", 1.0), probs, named, **more)  # type: ignore[arg-type]


WORN = {"<30": 0.04, "30-59": 0.61, ">=60": 0.35}
VOTES = ["30-59", "30-59", ">=60", "30-59", ">=60"]
MASK = Said("mask", "", 1.0, {"worn": 0.97, "not_worn": 0.03}, {"fold0": "worn"})


def routed(*experts: Said, states: dict[str, float], said: str = "30-59", **more: object) -> Question:
    return Question("age", said, WORN, experts, ("mask",), "hard", states, **more)  # type: ignore[arg-type]


CASES: list[tuple[Question, str]] = [
    (Question("mask", "worn", MASK.probs, [MASK]), "mask: worn 0.97 against not_worn 0.03"),
    (
        Question("age", "30-59", WORN, [said("", WORN, VOTES)]),
        "age: 30-59 0.61 against >=60 0.35; votes 3 of 5 (fold2 says >=60, fold4 says >=60)",
    ),
    (
        routed(said("worn", WORN, VOTES[:2]), states={"worn": 1.0}, confidence=0.97),
        'mask 0.97 worn -> age expert "worn" -> 30-59 0.61 against >=60 0.35; votes 2 of 2',
    ),
    (
        routed(said("", WORN), states={"worn": 1.0}, confidence=0.97),
        "mask 0.97 worn -> pooled age expert -> 30-59 0.61 against >=60 0.35",
    ),
    (
        routed(
            said("worn", WORN, share=0.6), said("incorrect", {"30-59": 0.2, ">=60": 0.8}, share=0.4),
            states={"worn": 0.6, "incorrect": 0.4},
        ),
        'mask 0.60 worn, 0.40 incorrect (route hard) -> age experts "worn" (counts 0.60) 30-59 0.61 against >=60 0.35; '
        '"incorrect" (counts 0.40) >=60 0.80 against 30-59 0.20 -> together 30-59 0.61 against >=60 0.35',
    ),
    (
        routed(said("incorrect,not_worn", WORN), states={"incorrect": 0.7, "not_worn": 0.3}),
        'mask 0.70 incorrect, 0.30 not_worn (route hard) -> age expert "incorrect,not_worn" -> '
        "30-59 0.61 against >=60 0.35",
    ),
    (
        routed(
            said("worn", WORN, voted={"<30": 0.01, "30-59": 0.79, ">=60": 0.2}, fitted="temperature 1.31"),
            states={"worn": 1.0},
        ),
        'mask 1.00 worn -> age expert "worn" -> 30-59 0.61 against >=60 0.35; temperature 1.31 made it so from 0.79',
    ),
    (
        routed(said("worn", WORN, VOTES[:2], weights={"fold0": 2.0, "fold1": 0.5}), states={"worn": 1.0}),
        'mask 1.00 worn -> age expert "worn" -> 30-59 0.61 against >=60 0.35; votes 2 of 2; weights fold0 2, fold1 0.5',
    ),
    (Question("fine", "apple", {"apple": 0.5}), "fine: apple, the one class that is possible here"),
    (Question("fine", "", {}), "fine: not asked"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "line"), CASES, ids=[line[:40] for _, line in CASES])
def test_a_node_in_one_line(question: Question, line: str) -> None:
    assert sentences(Account("a.jpg", [question], {}, -1, 0.0))[0] == line


ANSWER = {"mask": "worn", "gender": "male", "age": "30-59"}


@pytest.mark.parametrize(
    ("account", "lines"),
    [
        (Account("p", [], ANSWER, 1, 0.58), ["answer: worn / male / 30-59 (class 1), probability 0.58"]),
        (
            Account("p", [], ANSWER, 1, 0.58, truth={**ANSWER, "age": ">=60"}, notes=["seen"]),
            [
                "answer: worn / male / 30-59 (class 1), probability 0.58",
                "true: worn / male / >=60: age wrong",
                "note: seen",
            ],
        ),
        (
            Account("p", [], ANSWER, 1, 0.58, alone={"age": ">=60"}, truth={"age": "30-59"}),
            [
                "answer: worn / male / 30-59 (class 1), probability 0.58",
                "by itself the most probable would be age >=60: the most probable combination is answered, each class "
                "of which need not be the most probable one",
                "true: 30-59: right",
            ],
        ),
        (
            Account("p", [], {}, -1, 0.0, reason="abstained: route threshold=0.9 keeps no state of age"),
            ["no answer: abstained: route threshold=0.9 keeps no state of age"],
        ),
    ],
)
def test_the_answer_and_what_is_known_besides(account: Account, lines: list[str]) -> None:
    assert sentences(account) == lines


def test_lines_fit_a_terminal_and_long_names_stay_whole() -> None:
    long = {f"a class with a rather long name, number {n}": 0.2 for n in range(5)}
    name = next(iter(long))
    account = Account("folder/photo.jpg", [routed(said(name, long), states={name: 1.0}, said=name)], ANSWER, 1, 0.5)
    lines = text(account).splitlines()
    assert lines[0] == "folder/photo.jpg"
    assert all(len(line) <= WIDTH and line.startswith("  ") for line in lines[1:])
    assert "\n" not in " ".join(line.strip() for line in lines)


@pytest.mark.parametrize("width", range(50, 90))
def test_votes_are_not_torn_apart(width: int) -> None:
    account = Account("a photo.jpg", [Question("age", "30-59", WORN, [said("", WORN, VOTES)])], ANSWER, 1, 0.5)
    lines = text(account, width).splitlines()
    assert sum("votes 3 of 5" in line for line in lines) == 1
    assert " ".join(" ".join(lines[1:]).split()) == " ".join(" ".join(sentences(account)).split())


def test_no_number_is_rounded_to_certainty() -> None:
    assert against({"a": 0.9999, "b": 0.0001}, "a") == "a >0.99 against b <0.01"
    assert number(0.995) == ">0.99"
    assert number(0.9949) == "0.99"
