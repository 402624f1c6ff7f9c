"""Name -> class or function, with keyword-only arguments as the schema.

Positional arguments of a component come from data, keyword-only arguments from configuration. A component's
signature is therefore all the schema there is, and a name like "my.module:Mine" reaches another package's component.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from recgraph.errors import ConfigError, suggest
from recgraph.types import View

Component = Callable[..., Any]
T = TypeVar("T", bound=Component)


class Registry:
    """All components of one kind.

    Args:
        kind: the word used in messages, such as "encoder".
        package: a module, or a package whose modules register components; imported on the first look-up.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._components: dict[str, Component] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: make a class or function known as `name`."""

        def add(component: T) -> T:
            known = self._components.setdefault(name, component)
            if known is not component:
                raise ConfigError(f"{self.kind} {name!r} is already registered by {known.__module__}")
            return component

        return add

    def components(self) -> dict[str, Component]:
        """Every registered component by name, in alphabetical order."""
        if not self._scanned:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
                importlib.import_module(f"{self.package}.{module.name}")
            self._scanned = True
        return dict(sorted(self._components.items()))

    def find(self, name: str, where: str = "") -> Component:
        """The component called `name`, or the one at "module:attribute".

        Raises:
            ConfigError: nothing has that name; the message gives `where` and the nearest name.
        """
        prefix = f"{where}: " if where else ""
        if ":" in name:
            module, _, attribute = name.partition(":")
            try:
                return getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                raise ConfigError(f"{prefix}cannot load {self.kind} {name!r}: {error}") from error
        known = self.components()
        if name not in known:
            raise ConfigError(f"{prefix}no {self.kind} {name!r}. {suggest(name, known)}")
        return known[name]

    def check(self, spec: Any, where: str) -> dict[str, Any]:
        """Validate a component's entry in a configuration and fill in its defaults.

        Args:
            spec: a name, or a mapping with a `name` and the component's keyword arguments.
            where: dotted path of the entry, for messages.

        Returns:
            The name and every keyword argument, converted to the types of the signature.

        Raises:
            ConfigError: with the path, the value, what was expected, and the nearest valid name.
        """
        from pydantic import (
            ConfigDict,
            ValidationError,
            create_model,
        )  # slow to import, and users of encoders need none of it

        given = {"name": spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
        name = given.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(f"{where}: expected the name of a {self.kind}, or a mapping with a `name`, got {spec!r}")
        component = self.find(name, where)
        fields = options(component)
        for key in given:
            if key not in fields:
                raise ConfigError(f"{where}.{key}: {self.kind} {name!r} takes no {key!r}. {suggest(key, fields)}")
        nested = {key: registry for key, (kind, _) in fields.items() if (registry := _nested(kind))}
        plain = {key: field for key, field in fields.items() if key not in nested}
        schema = create_model(name, __config__=ConfigDict(arbitrary_types_allowed=True), **plain)  # type: ignore[call-overload]
        try:
            checked = schema(**{key: value for key, value in given.items() if key in plain}).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(map(str, (where, *first["loc"])))
            got = "" if first["type"] == "missing" else f", got {first['input']!r}"
            raise ConfigError(f"{path}: {first['msg']}{got}") from None
        for key, registry in nested.items():
            if key not in given and fields[key][1] is ...:
                raise ConfigError(f"{where}.{key}: Field required")
            value = given.get(key, fields[key][1])
            checked[key] = None if value is None else registry.check(value, f"{where}.{key}")
        return {"name": name, **checked}

    def build(self, spec: Any, *data: Any, where: str = "", **more_data: Any) -> Any:
        """Check `spec` and call the component with `data` and its options."""
        checked = self.check(spec, where or self.kind)
        component = self.find(checked.pop("name"))
        for key, (kind, _) in options(component).items():
            registry = _nested(kind)
            if registry and checked[key] is not None:
                checked[key] = registry.build(checked[key], where=f"{where}.{key}")
        return component(*data, **more_data, **checked)


@functools.cache
def options(component: Any) -> dict[str, tuple[Any, Any]]:
    """Keyword-only arguments of a component: name -> (type, default), `...` for none."""
    function = component.__init__ if inspect.isclass(component) else component
    hints = typing.get_type_hints(function)
    return {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(component).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def summary(component: Component) -> str:
    """The first line of a component's docstring."""
    return (inspect.getdoc(component) or "").partition("\n")[0]


def _nested(kind: Any) -> Registry | None:
    """The registry that an argument of this type is configured from, such as `view: View`."""
    return views if kind is View or View in typing.get_args(kind) else None


encoders = Registry("encoder", "recgraph.encoders")
heads = Registry("head", "recgraph.heads")
views = Registry("view", "recgraph.views")
objectives = Registry("objective", "recgraph.objectives")
samplers = Registry("sampler", "recgraph.sampling")
splits = Registry("split", "recgraph.data.splits")
baselines = Registry("baseline", "recgraph.baselines")
