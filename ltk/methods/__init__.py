"""The methods by name, looked up lazily so that listing them costs no import of torch.

A method outside ltk is named ``package.module:Class``; its module must be importable.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import TYPE_CHECKING, Any

from ltk.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

    from ltk.methods.base import Method
    from ltk.models.backbones import Backbone

METHODS = {
    "bagmar": "ltk.methods.bagmar:BaGMar",
    "balanced-softmax": "ltk.methods.baselines:BalancedSoftmax",
    "ce": "ltk.methods.baselines:CrossEntropy",
    "class-balanced": "ltk.methods.baselines:ClassBalanced",
    "focal": "ltk.methods.baselines:Focal",
    "gcl": "ltk.methods.gcl:GCL",
    "glmc": "ltk.methods.glmc:GLMC",
    "gpaco": "ltk.methods.gpaco:GPaCo",
    "ldam": "ltk.methods.baselines:LDAM",
    "logit-adjustment": "ltk.methods.baselines:LogitAdjustment",
    "paco": "ltk.methods.paco:PaCo",
    "reslt": "ltk.methods.reslt:ResLT",
    "retrain-classifier": "ltk.methods.retrain_classifier:RetrainClassifier",
}


_GUIDE = "What a method defines, with an example: docs/add-a-method.md"
_OUTSIDE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_outside(name: str) -> bool:
    """Whether a name has the form ``package.module:Class`` of a method outside ltk; nothing is imported."""
    return _OUTSIDE.fullmatch(name) is not None


def get_method_class(name: str) -> type[Method]:
    """Return the class of a method: a name of ``METHODS``, or ``package.module:Class``.

    Raises:
        UsageError: no such method; the nearest names are in the hint.
    """
    if is_outside(name):
        return _import_outside(name)
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    module, _, attribute = METHODS[name].partition(":")
    method_class: type[Method] = getattr(importlib.import_module(module), attribute)
    return method_class


def _import_outside(name: str) -> type[Method]:
    found = _find_class(name)
    if missing := sorted(found.__abstractmethods__):
        raise UsageError(f"method {name!r} does not define {' and '.join(missing)}", _GUIDE)
    try:
        inspect.signature(found).bind(None, None, **dict.fromkeys(found.Options.model_fields))
    except TypeError as error:
        what = "backbone, class_counts and every field of its Options"
        raise UsageError(f"the constructor of method {name!r} does not take {what}: {error}", _GUIDE) from error
    return found


def _find_class(name: str) -> type[Method]:
    from ltk.methods.base import Method

    path, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(path)
    except (ImportError, AttributeError) as error:
        hint = "Its folder must be on PYTHONPATH, or its package installed."
        raise UsageError(f"method {name!r} cannot be imported: {error}", hint) from error
    found = getattr(module, attribute, None)
    if isinstance(found, type) and issubclass(found, Method):
        return found
    classes = {key: value for key, value in vars(module).items() if isinstance(value, type)}
    methods = [key for key, value in classes.items() if issubclass(value, Method) and not inspect.isabstract(value)]
    if found is None and methods:
        raise unknown_name(f"method in {path}", attribute, methods)
    raise UsageError(f"{name!r} is no method", "A method is a class derived from ltk.methods.base.Method.")


def create_method(name: str, backbone: Backbone, class_counts: Tensor, **options: Any) -> Method:
    """Build a method on a backbone.

    Args:
        name: a key of ``METHODS``, or ``package.module:Class``.
        backbone: features to learn.
        class_counts: class_counts_K, training images of each class, each at least 1.
        **options: the method's own options; those left out take the defaults of its ``Options``.

    Raises:
        UsageError: no such method.
        pydantic.ValidationError: an unknown or ill-typed option.
    """
    method_class = get_method_class(name)
    checked = method_class.Options(**options)
    # Every concrete method takes (backbone, class_counts, *, **options); the base class has no constructor of its own.
    return method_class(backbone, class_counts, **dict(checked))  # type: ignore[call-arg]
