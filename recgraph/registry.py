"""Registries that map names to components: classes or functions whose keyword-only arguments are their schema.

A component's positional arguments come from data, its keyword-only arguments from configuration, so the signature is
the only schema. A name such as "my.module:Mine" refers to a component of another package.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from recgraph.errors import ConfigError, plainly, suggest
from recgraph.expected import is_union, mismatch, refuse_booleans

if TYPE_CHECKING:
    from pydantic import BaseModel

Component = Any
"""A class or function; its other attributes depend on the kind."""

Option = tuple[Any, Any]
"""Type and default; the default is `...` if there is none."""
T = TypeVar("T", bound=Callable[..., Any])


class Registry:
    """All components of one kind.

    Args:
        kind: the word used in messages, such as "encoder".
        package: a module, or a package whose modules register components; imported on the first look-up.
        base: "module:Class" that every component must derive from; None if components are functions.
    """

    def __init__(self, kind: str, package: str, base: str | None) -> None:
        self.kind, self.package, self.base = kind, package, base
        self._components: dict[str, Component] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that registers a class or function as `name`."""

        def add(component: T) -> T:
            known = self._components.get(name, component)
            # The same definition, run again (a notebook cell, a reload), replaces the earlier one.
            if (known.__module__, known.__qualname__) != (component.__module__, component.__qualname__):
                raise ConfigError(f"{self.kind} {name!r} is already registered by {known.__module__}")
            if inspect.isclass(component) and "__init__" in vars(component):
                component.__init__ = _checked(component.__init__, component)  # type: ignore[method-assign]
            self._components[name] = component
            package = component.__module__.partition(".")[0]
            if package != "recgraph":
                _elsewhere.setdefault(name, set()).add(package)
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
            ConfigError: no component of this kind has that name; the message gives `where` and the nearest name.
        """
        prefix = f"{where}: " if where else ""
        if ":" in name:
            component = locate(name, f"{prefix}cannot load {self.kind} {name!r}")
            base = self.base and locate(self.base)
            fits = inspect.isclass(component) and issubclass(component, base) if base else inspect.isfunction(component)
            if not fits:
                raise ConfigError(f"{prefix}{name!r} is not a {self.base or 'Python function'}")
            return component
        known = self.components()
        if name not in known:
            other = "; one of another package is written package.module:Class" if "." in name else ""
            raise ConfigError(f"{prefix}no {self.kind} {name!r}{other}. {suggest(name, known)}")
        return known[name]

    def check(self, spec: Any, where: str, more: Mapping[str, Option] | None = None) -> dict[str, Any]:
        """Validate a component's entry in a configuration and fill in its defaults.

        Args:
            spec: a name, or a mapping with a `name` and the component's keyword arguments.
            where: dotted path of the entry, for messages.
            more: additional keys of the entry, such as an objective's weight.

        Returns:
            The name and every keyword argument, converted to the types of the signature.

        Raises:
            ConfigError: with the path, the value, what was expected, and the nearest valid name.
        """
        from pydantic import ValidationError  # slow to import, and not needed to use encoders

        given = {"name": spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
        name = given.pop("name", None)
        if not isinstance(name, str):
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise ConfigError(
                f"{where}: expected the name of {article} {self.kind}, or a mapping with a `name`, got {spec!r}"
            )
        component = self.find(name, where)
        fields = {**options(component), **(more or {})}
        for key in given:
            if key not in fields:
                there = key in inspect.signature(component).parameters
                hint = "It takes it by position, and options are keyword-only" if there else suggest(key, fields)
                raise ConfigError(f"{where}.{key}: {self.kind} {name!r} takes no {key!r}. {hint}")
        inner = {key: registry for key, (kind, _) in fields.items() if (registry := _nested(kind))}
        schema = _schema(component, tuple((more or {}).items()))
        try:
            checked = schema(**{key: value for key, value in given.items() if key not in inner}).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0])
            kind = fields[key][0]
            if is_union(kind) and (expected := mismatch(given.get(key), kind)):  # pydantic names one alternative
                raise ConfigError(f"{where}.{key}: expected {expected}, got {given.get(key)!r}") from None
            path = ".".join(map(str, (where, *first["loc"])))
            got = "" if first["type"] == "missing" else f", got {first['input']!r}"
            raise ConfigError(f"{path}: {plainly(first['msg'])}{got}") from None
        refuse_booleans(given, checked, where)
        for key, registry in inner.items():
            if key not in given and fields[key][1] is ...:
                raise ConfigError(f"{where}.{key}: Field required")
            value = given.get(key, fields[key][1])
            checked[key] = None if value is None else registry.check(value, f"{where}.{key}")
        return {"name": name, **checked}

    def build(self, spec: Any, *data: Any, where: str = "", **more_data: Any) -> Any:
        """Check `spec`, and call the component with `data`, the `more_data` that it takes, and its options."""
        checked = self.check(spec, where or self.kind)
        component = self.find(name := checked.pop("name"))
        # A nested encoder has the same users and items, and the same content if it takes it.
        signature = inspect.signature(component)
        for key, registry in nested(component).items():
            if checked[key] is not None:
                own, more = (data, more_data) if registry is encoders else ((), {})
                checked[key] = registry.build(checked[key], *own, where=f"{where}.{key}", **more)
        more_data = {key: value for key, value in more_data.items() if key in signature.parameters}
        try:
            signature.bind(*data, **more_data, **checked)
        except TypeError as error:
            raise ConfigError(f"{where or self.kind}: {self.kind} {name!r} cannot be built: {error}") from None
        return component(*data, **more_data, **checked)


@functools.cache
def options(component: Any) -> dict[str, Option]:
    """Keyword-only arguments of a component: name -> (type, default), `...` if there is no default."""
    function = component.__init__ if inspect.isclass(component) else component
    hints = typing.get_type_hints(function, include_extras=True)  # with ranges, such as PositiveInt
    return {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(component).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def _checked(make: Callable[..., None], component: type) -> Callable[..., None]:
    """The `__init__` of a class, such that it refuses numbers and names that `check` refuses, without pydantic."""

    @functools.wraps(make)
    def checked(self: Any, *data: Any, **given: Any) -> None:
        for key, (kind, _) in options(component).items():
            if key in given and (expected := mismatch(given[key], kind)):
                raise ConfigError(f"{component.__name__}: {key} is {given[key]!r}; expected {expected}")
        make(self, *data, **given)

    return checked


@functools.cache
def _schema(component: Any, more: tuple[tuple[str, Option], ...]) -> type[BaseModel]:
    """The pydantic model of a component's options, without nested components; cached, since it is slow to build."""
    from pydantic import ConfigDict, create_model

    fields = {key: field for key, field in {**options(component), **dict(more)}.items() if not _nested(field[0])}
    config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    return create_model(component.__name__, __config__=config, **fields)  # type: ignore[call-overload]


def locate(path: str, failure: str = "cannot load") -> Any:
    """Import the object at "module:attribute", which runs the module's code.

    Raises:
        ConfigError: it cannot be imported; the message begins with `failure`.
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        hint = "; is its folder on PYTHONPATH?" if isinstance(error, ModuleNotFoundError) else ""
        raise ConfigError(f"{failure}: {error}{hint}") from error


_elsewhere: dict[str, set[str]] = {}
"""Name -> the other packages that have registered a component of this name."""


def packages(spec: Any) -> tuple[str, ...]:
    """Other packages whose components a configuration names, in alphabetical order.

    They are named as "package.module:attribute", or by a name that the package has registered.
    """
    if isinstance(spec, Mapping):
        name = str(spec.get("name"))
        own = {name.partition(":")[0].partition(".")[0]} if ":" in name else _elsewhere.get(name, set())
        return tuple(sorted(own.union(*map(packages, spec.values())) - {"", "recgraph"}))
    return tuple(sorted({name for one in spec for name in packages(one)})) if isinstance(spec, list | tuple) else ()


def summary(component: Component) -> str:
    """The first line of a component's docstring."""
    return (inspect.getdoc(component) or "").partition("\n")[0]


def nested(component: Component) -> dict[str, Registry]:
    """Keyword-only arguments of a component that are components themselves, with their registries."""
    return {key: registry for key, (kind, _) in options(component).items() if (registry := _nested(kind))}


def _nested(kind: Any) -> Registry | None:
    """The registry of an argument whose type is a component, such as `view: View` or `items: Encoder`; else None."""
    for registry in (views, encoders):
        assert registry.base is not None
        base = locate(registry.base)
        if kind is base or base in typing.get_args(kind):
            return registry
    return None


encoders = Registry("encoder", "recgraph.encoders", "recgraph.encoders.base:Encoder")
heads = Registry("head", "recgraph.heads", "recgraph.heads:Head")
views = Registry("view", "recgraph.views", "recgraph.types:View")
objectives = Registry("objective", "recgraph.objectives", "recgraph.objectives.base:Objective")
sharings = Registry("sharing", "recgraph.models.sharing", "recgraph.models.sharing:Sharing")
balances = Registry("balance", "recgraph.objectives.balance", "recgraph.objectives.balance:Balance")
samplers = Registry("sampler", "recgraph.sampling.negatives", "recgraph.sampling.negatives:Sampler")
splits = Registry("split", "recgraph.data.splits", None)
baselines = Registry("baseline", "recgraph.baselines", "recgraph.baselines.base:Baseline")
