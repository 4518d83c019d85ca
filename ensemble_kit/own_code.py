"""A hash of what a function of one's own does, so that a changed one is not taken for the one before."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from ensemble_kit.files import sha256_json
from ensemble_kit.named import name_of

PLAIN = (type(None), bool, int, float, complex, str, bytes)
CO_HAS_DOCSTRING = 0x4000000
"""From Python 3.13 on; before, the first constant of a function that is no text says that it has none."""


def code_sha256(part: Callable[..., Any]) -> str:
    """The hash of a function, a class, or an object that is called; the same in every process of one Python.

    What enters: bytecode and constants without lines, names of files and docstrings; defaults; the values that it
    closes over; of its own module, the functions, classes and upper-case constants that it names, and theirs in turn;
    of an object, its class's methods and its public attributes, and what its `state_dict` gives. Of what other modules
    bring, only the name. Another Python compiles other bytecode, which counts as another function.

    Examples:
        >>> def power(n):
        ...     return lambda x: x**n
        >>> code_sha256(power(2)) == code_sha256(power(2)), code_sha256(power(2)) == code_sha256(power(3))
        (True, False)
    """
    return sha256_json(_Reader(_module(part)).read(part))[:16]


def _module(part: Any) -> str:
    while isinstance(part, functools.partial):
        part = part.func
    return str(getattr(part, "__module__", None) or type(part).__module__)


def coded(part: Any) -> Any:
    """What tells parts from each other: a name, or the name and hash of a function of one's own."""
    return [name_of(part), code_sha256(part)] if callable(part) else part


class _Reader:
    """Turns values into what JSON can hold; what was read once is named by its number, so that cycles end."""

    def __init__(self, module: str):
        self.module = module
        self.seen: dict[int, int] = {}
        self.kept: list[Any] = []  # an id is a value's own only while the value lives

    def read(self, value: Any) -> Any:
        if isinstance(value, PLAIN):
            return [type(value).__name__, repr(value)]
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, os.PathLike):
            return ["path", os.fspath(value)]
        if isinstance(value, tuple | frozenset):  # whether equal constants are one object, differs from read to cached
            return self._data(value)
        if id(value) in self.seen:
            return ["seen", self.seen[id(value)]]
        self.seen[id(value)] = len(self.seen)
        self.kept.append(value)
        if isinstance(value, functools.partial):
            return ["partial", *map(self.read, (value.func, value.args, value.keywords))]
        if isinstance(value, MethodType):
            return ["method", self.read(value.__func__), self.read(value.__self__)]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, property):
            return ["property", self.read(value.fget)]
        if isinstance(value, type):
            return self._class(value)
        return self._data(value)

    def _data(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return ["mapping", *sorted(([self.read(k), self.read(v)] for k, v in value.items()), key=repr)]
        if isinstance(value, AbstractSet):
            return ["set", *sorted(map(self.read, value), key=repr)]
        if isinstance(value, Sequence):
            return [type(value).__name__, *map(self.read, value)]
        if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
            return self._array(value)
        return ["named", _name(value)] if hasattr(value, "__name__") else self._object(value)

    def _array(self, value: Any) -> Any:
        if hasattr(value, "detach"):  # a tensor, whose kinds numpy does not all know
            value = value.detach().cpu()
            value = value.float() if value.is_floating_point() else value
        array = np.ascontiguousarray(value)
        if array.dtype.kind not in "biufcSU":
            return ["array", self.read(array.tolist())]
        return ["array", str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]

    def _function(self, function: FunctionType) -> Any:
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        own = [self.read(value) for value in (function.__defaults__, function.__kwdefaults__, cells)]
        if function.__module__ != self.module:
            return ["function", _name(function), *own[:2]]
        named = {
            name: function.__globals__[name] for name in sorted(_names(function.__code__) & {*function.__globals__})
        }
        used = [[name, self.read(value)] for name, value in named.items() if self._is_ours(name, value)]
        return ["function", self._code(function.__code__), *own, used]

    def _is_ours(self, name: str, value: Any) -> bool:
        if isinstance(value, FunctionType | type):
            return value.__module__ == self.module
        return name.isupper()

    def _code(self, code: CodeType) -> Any:
        has_text = bool(code.co_consts) and isinstance(code.co_consts[0], str) and not code.co_name.startswith("<")
        is_documented = has_text and (sys.version_info < (3, 13) or bool(code.co_flags & CO_HAS_DOCSTRING))
        constants = (None, *code.co_consts[1:]) if is_documented else code.co_consts
        names = [*code.co_names, "/", *code.co_varnames, "/", *code.co_freevars]
        return [code.co_code.hex(), names, [self.read(value) for value in constants]]

    def _class(self, found: type) -> Any:
        if found.__module__ != self.module:
            return ["class", _name(found)]
        own = {name: value for name, value in vars(found).items() if not name.startswith("__") or callable(value)}
        parts = [[name, self.read(getattr(value, "__func__", value))] for name, value in sorted(own.items())]
        return ["class", [self.read(base) for base in found.__bases__], parts]

    def _object(self, value: Any) -> Any:
        state = {name: item for name, item in getattr(value, "__dict__", {}).items() if not name.startswith("_")}
        tensors = value.state_dict() if callable(getattr(value, "state_dict", None)) else {}
        return ["object", self.read(type(value)), self.read(state), self.read(dict(tensors))]


def _names(code: CodeType) -> set[str]:
    """What a function and those inside it name."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names}.union(*inner)


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
