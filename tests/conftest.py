"""Its place makes pytest put this folder on the import path, so that tests in subfolders share its helpers."""
