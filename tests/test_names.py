"""What completes after a dot: names that users want, each of which is there."""

import subprocess
import sys
from importlib import import_module

import pytest

PACKAGES = ["", ".data", ".diversity", ".entropy", ".estimators", ".exploration", ".log", ".mdp"]
PACKAGES += [".offline", ".perturbations", ".planning", ".plots", ".policies", ".preferences"]
PACKAGES += [".risk", ".robust"]
UNWANTED = {"Any", "annotations", "np", "partial", "import_module", "difflib", "InputError", "os"}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_that_is_shown_is_there(name):
    package = import_module(f"rlentropy{name}")
    shown = dir(package)
    assert shown
    assert not UNWANTED & set(shown)
    for attribute in shown:
        assert getattr(package, attribute) is not None


def test_packages_are_reached_by_dots_alone():
    code = "import rlentropy as r\n"
    for path in (
        *("policies.Tabular", "plots.video", "perturbations.allowed", "data.load", "log.Log"),
        *("exploration.entgame.run", "offline.rfzi.run", "robust.planning.run", "risk.parse"),
        *("preferences.active_preference.run", "estimators.estimate", "diversity.vendi_score"),
    ):
        code += f"r.{path}\n"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'planing'"):
        import_module("rlentropy.robust").planing  # noqa: B018
