"""Text that nobody would write on purpose: mutations of a corpus, and sentences of a small grammar. The same seed gives the same texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[2]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(" "))


NAMES = (
    "x",
    "y",
    "g",
    "h",
    "amount",
    "`unit  price`",
    "`a:b`",
    "`log(x)`",
    "Intercept",
    "é",
    "_x",
    "x.1",
    "`a\"b'`",
    "`\t`",
    "TRUE",
    "p",
    "I",
)
FUNCTIONS = ("log", "exp", "sqrt", "I", "C", "center", "scale", "bin", "within", "between", "offset", "p", "weights", "se", "poly", "eval")
PLAIN = ("log", "sqrt", "I", "center", "scale", "exp", "C")
NUMBERS = ("0", "1", "2.5", "1e999", "1e-400", "1e400", "0.0", "9" * 50, "1e3", ".5", "0x1", "1_0")
FORMULA_WORDS = (
    *NAMES,
    *FUNCTIONS,
    *NUMBERS,
    "~",
    "+",
    "-",
    "*",
    "/",
    ":",
    "|",
    "||",
    "^",
    "**",
    "(",
    ")",
    ",",
    "(1 | g)",
    " ",
    "`",
    "\n",
    "'",
)

VALUES = _words(
    ".nan .inf -.inf 1e9999 1.0e+9999 0x_ 0b_ 2026-13-01 2026-02-30 0000-00-00 9999-12-31 0001-01-01 1:2:3 NO yes null ~ = << "
    "0 -1 1e400 [] {} [[]] [1,2] {a: 1} true 0012 1_000 !!int !!python/name:os.system &a *a | > @ ` % ... --- ? -"
)
STUDY_WORDS = (
    *VALUES,
    "9" * 60,
    "'" + "9" * 400 + "'",
    "!!int x",
    "!!binary aGk=",
    "&a [1]",
    "*nobody",
    "<<: {name: z}",
    "[" * 60,
    "{a: " * 40,
    '"\\ud800"',
    '"\\0"',
    '"\\U00110000"',
    "\t",
    "\ufeff",
    "\u2028",
    "\x00",
    "\x1b[31m",
    "2001-12-14t21:59:43.10-99:99",
    "s3://user:secret@bucket/x",
    "../..",
    "x" * 400,
)
FIELDS = _words(
    "name title formula family source expectations where missing window as_of cells engine method interval publish_to unit "
    "currency quarantine_limit max_cells predict_for standardise_to priors sampling draws seed quadrature_points intervals "
    "bootstrap_samples privacy source.parquet source.database source.csv source.json source.arrow source.options.decimal source.hive "
    "sampling.draws window.days privacy.k priors.sd draws.rows "
    "nobody a.b.c.d.e.f.g.h.i"
)
CONDITION_WORDS = _words(
    "amount is_fuel ts department n and or not in is null like between case when then else end ( ) , = <> < > <= >= + - * / % "
    "|| :: 'a' '' \"n\" 1 2.5 1e400 -1 true false date '2024-01-01' interval 1 day cast as integer varchar abs length lower sum "
    "count(*) random() now() uuid() read_text('/etc/passwd') (select 1) exists ; -- /* */ $1 ? :x @ [1] {'a':1} x->>'a' "
    "lambda over() union all from t extract(year from ts) \"integral) is null) as z\" try_cast(n as date) glob('*') "
    "getenv('HOME') collate nocase **"
)


def formula_corpus() -> list[str]:
    """Formulas of the shipped studies and of the tests."""
    found = {match[1] for file in studies() for match in re.finditer(r"^formula: *(.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        found |= {match[1] for match in re.finditer(r'"([^"\n]{1,200}~[^"\n]{1,200})"', file.read_text(encoding="utf-8"))}
    return sorted(found)


def studies() -> list[Path]:
    """The shipped studies."""
    return sorted((ROOT / "studies").rglob("*.yaml"))


def condition_corpus() -> list[str]:
    """Conditions of the tests, those that are allowed and those that are not."""
    text = (ROOT / "tests" / "groupwise" / "source" / "test_conditions.py").read_text(encoding="utf-8")
    return sorted({match[1] for match in re.finditer(r'^ +\(?"([^"\n]+)"', text, re.MULTILINE)})


def mutated(text: str, others: Sequence[str], words: Sequence[str], random: Random) -> str:
    """The text after one to four mutations, seldom longer than 20,000 characters."""
    for _ in range(random.choice((1, 1, 2, 3, 4))):
        text = random.choice(MUTATIONS)(text, others, words, random)
    return text[:20_000]


def _span(text: str, random: Random) -> tuple[int, int]:
    start = random.randrange(len(text) + 1)
    return start, min(len(text), start + random.choice((1, 1, 2, 5, 20)))


def _insert_word(text: str, others: Sequence[str], words: Sequence[str], random: Random) -> str:
    start, end = _span(text, random)
    return text[:start] + random.choice(words) + text[random.choice((start, end)) :]


def _drop(text: str, others: Sequence[str], words: Sequence[str], random: Random) -> str:
    start, end = _span(text, random)
    return text[:start] + text[end:]


def _repeat(text: str, others: Sequence[str], words: Sequence[str], random: Random) -> str:
    start, end = _span(text, random)
    return text[:end] + text[start:end] * random.choice((1, 2, 10, 200)) + text[end:]


def _splice(text: str, others: Sequence[str], words: Sequence[str], random: Random) -> str:
    other = random.choice(others)
    return text[: _span(text, random)[0]] + other[_span(other, random)[0] :]


def _character(text: str, others: Sequence[str], words: Sequence[str], random: Random) -> str:
    start, _ = _span(text, random)
    return (
        text[:start]
        + chr(random.choice((random.randrange(128), random.randrange(0x3000), random.randrange(0xE000, 0x110000))))
        + text[start:]
    )


def _wrap(text: str, others: Sequence[str], words: Sequence[str], random: Random) -> str:
    start, end = _span(text, random)
    depth = random.choice((1, 1, 3, 40, 400))
    return text[:start] + "(" * depth + text[start:end] + ")" * depth + text[end:]


def _swap_lines(text: str, others: Sequence[str], words: Sequence[str], random: Random) -> str:
    lines = text.split("\n")
    first, second = random.randrange(len(lines)), random.randrange(len(lines))
    lines[first] = random.choice((lines[second], " " + lines[first], lines[first] + " " + lines[second]))
    return "\n".join(lines)


def _replace_value(text: str, others: Sequence[str], words: Sequence[str], random: Random) -> str:
    """``field: value`` with another value; in other text, one word for another."""
    parts = list(re.finditer(r":[ \t]+([^\n]+)|\w+", text))
    if not parts:
        return text
    part = random.choice(parts)
    return text[: part.start()] + (": " if part[0][0] == ":" else "") + random.choice(words) + text[part.end() :]


MUTATIONS: tuple[Callable[[str, Sequence[str], Sequence[str], Random], str], ...] = (
    _insert_word,
    _insert_word,
    _replace_value,
    _replace_value,
    _drop,
    _repeat,
    _splice,
    _character,
    _wrap,
    _swap_lines,
)


def formulas(random: Random) -> Iterator[str]:
    """Mutated and made-up formulas, without end."""
    corpus = formula_corpus()
    while True:
        kind = random.random()
        if kind < 0.5:
            yield mutated(random.choice(corpus), corpus, FORMULA_WORDS, random)
        else:
            yield plain_formula(random) if kind < 0.75 else made_up_formula(random)


def plain_formula(random: Random) -> str:
    """A sentence of the formula language that is nearly always right."""
    names = random.sample(("a", "b", "c", "d", "x", "`unit  price`", "é", "`log(x)`", "`a:b`"), 6)
    calls = [f"{random.choice(PLAIN)}({_arithmetic(names, random, 3)})" for _ in range(random.choice((0, 1, 3)))]
    means = [f"{random.choice(('within', 'between'))}({names[0]}, {names[5]})"] * random.choice((0, 0, 1))
    terms = [
        random.choice((" + ", "*", ":")) + random.choice((*names[:4], *calls, *means, "bin(x, 5)")) for _ in range(random.randrange(8))
    ]
    offset = random.choice(("", f" + offset({random.choice(PLAIN[:5])}({_arithmetic(names, random, 2)}))"))
    group = f"({random.choice(('1', '0 + ' + names[0], names[1]))} {random.choice(('|', '||'))} {names[4]}/{names[5]})"
    return f"{random.choice(('y', 'log(y)', 'I(y/2)', 'p(y, n)', 'y | weights(w)', 'y | se(s)'))} ~ 1{''.join(terms)} + {group}{offset}"


def _arithmetic(names: Sequence[str], random: Random, depth: int) -> str:
    if depth == 0 or random.random() < 0.4:
        return random.choice((*names, "2", "0.5", "1e3"))
    inner = f"{_arithmetic(names, random, depth - 1)} {random.choice('+-*/^')} {_arithmetic(names, random, depth - 1)}"
    return random.choice((inner, f"({inner})", f"log({inner})", f"center({inner})", f"-{_arithmetic(names, random, depth - 1)}"))


def made_up_formula(random: Random) -> str:
    """A sentence of the formula language, now and then with a mistake, now and then very long."""
    terms = [_term(random, 3) for _ in range(random.choice((0, 1, 2, 3, 60)))]
    groups = [f"({_term(random, 2)} {random.choice(('|', '|', '||'))} {_factor(random)})" for _ in range(random.choice((0, 1, 1, 2)))]
    joined = [random.choice((" + ", " + ", " - ", " * ", "/", ":")) + part for part in (*terms, *groups)]
    chain = random.choice(("*", "/", ":", " - ", " + ", "|"))
    long = chain.join(f"v{i}" for i in range(random.choice((17, 300, 1500)))) if random.random() < 0.02 else "1"
    return f"{_response(random)} ~ {long}" + "".join(joined)


def _response(random: Random) -> str:
    name = random.choice(NAMES)
    return random.choice(
        (name, name, f"log({name})", f"p({name}, {_calculation(random, 1)})", f"{name} | weights(w)", f"I({_calculation(random, 2)})")
    )


def _factor(random: Random) -> str:
    return random.choice((":", "/", "/", "")).join(random.choice(NAMES) for _ in range(random.choice((1, 1, 2, 3))))


def _term(random: Random, depth: int) -> str:
    if depth == 0 or random.random() < 0.3:
        return random.choice((*NAMES, "1", "0"))
    if random.random() < 0.5:
        return f"{random.choice(FUNCTIONS)}({_calculation(random, depth)}{random.choice(('', '', ', g', ', 10'))})"
    return f"({_term(random, depth - 1)} {random.choice('+-*/:')} {_term(random, depth - 1)})"


def _calculation(random: Random, depth: int) -> str:
    if depth == 0 or random.random() < 0.3:
        return random.choice((*NAMES, *NUMBERS))
    if random.random() < 0.3:
        return f"{random.choice(FUNCTIONS)}({_calculation(random, depth - 1)})"
    return f"{_calculation(random, depth - 1)} {random.choice(('+', '-', '*', '/', '^'))} {_calculation(random, depth - 1)}"


def study_files(random: Random) -> Iterator[bytes]:
    """Mutated study files as bytes, some in another encoding or cut within a character."""
    corpus = [file.read_text(encoding="utf-8") for file in studies()]
    while True:
        text = mutated(random.choice(corpus), corpus, STUDY_WORDS, random)
        encoding = random.choice(("utf-8",) * 12 + ("utf-8-sig", "utf-16", "latin-1", "utf-7"))
        content = bytearray(text.encode(encoding, errors="replace"))
        if content and random.random() < 0.1:
            content[random.randrange(len(content))] = random.randrange(256)
        yield bytes(content[: random.randrange(len(content) + 1)] if random.random() < 0.03 else content)


def settings(random: Random) -> tuple[str, str]:
    """A field and a value as after ``--set``."""
    return random.choice(FIELDS), mutated(random.choice(STUDY_WORDS), STUDY_WORDS, STUDY_WORDS, random)


def conditions(random: Random) -> Iterator[str]:
    """Mutated and made-up conditions, without end."""
    corpus = condition_corpus()
    while True:
        kind = random.random()
        if kind < 0.4:
            yield mutated(random.choice(corpus), corpus, CONDITION_WORDS, random)
        elif kind < 0.6:
            yield mutated(plain_condition(random, 2), corpus, CONDITION_WORDS, random)
        elif kind < 0.8:
            yield plain_condition(random, 3)
        else:
            yield " ".join(random.choice(CONDITION_WORDS) for _ in range(random.choice((1, 3, 5, 8, 12))))


def plain_condition(random: Random, depth: int) -> str:
    """A condition that is nearly always right."""
    if depth and random.random() < 0.6:
        inner = f"{plain_condition(random, depth - 1)} {random.choice(('and', 'or'))} {plain_condition(random, depth - 1)}"
        return random.choice((inner, f"({inner})", f"not ({inner})", f"case when {inner} then true else is_fuel end"))
    number = random.choice(
        ("amount", "n", "abs(n)", "amount * 2", "n % 3", "length(department)", "year(ts)", "coalesce(n, 0)", "n::double")
    )
    compared = f"{number} {random.choice(('=', '<>', '<', '>=', 'is distinct from'))} {random.choice(('1', '2.5', '-3', 'n', 'amount'))}"
    others = (
        "is_fuel",
        "department like 'G%'",
        "department in ('A', 'it''s')",
        "ts >= date '2024-01-01'",
        "n is not null",
        "n between 1 and 5",
    )
    return random.choice((compared, compared, *others))
