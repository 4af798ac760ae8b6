"""A made-up export of a shop as people get them: semicolons, decimal commas, dd/mm/yyyy, returns, duplicates, missing customers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SHOPS = ("München/Süd", "Genève", "Łódź", "A Coruña", "Århus")
GOODS = {"Café/Thé": ("Crème brûlée", "Thé vert", "Café crème"), "Bücher": ("Roman", "Lyrik"), "Spielzeug": ("Würfel", "Bär", "Zug/Bahn")}


def write_messy_sales(
    path: Path, rows: int = 12_000, *, returns: int = 600, duplicates: int = 500, with_id: bool = True, encoding: str = "utf-8"
) -> None:
    """Write the file: ``returns`` rows have a negative amount, ``duplicates`` rows are there once more, every twentieth has no customer."""
    random = np.random.default_rng(20_261_129)
    goods = [(kind, good) for kind, names in GOODS.items() for good in names]
    shop_effect = dict(zip(SHOPS, random.normal(0.0, 0.3, len(SHOPS)), strict=True))
    good_effect = {good: random.normal(0.0, 0.5) for _, good in goods}
    customers = [f"K-{number:04}" for number in range(900)]
    customer_effect = random.normal(0.0, 0.3, len(customers))
    lines = []
    for row in range(rows):
        shop = SHOPS[random.integers(len(SHOPS))]
        kind, good = goods[random.integers(len(goods))]
        customer = int(random.integers(len(customers)))
        amount = float(np.exp(2.5 + shop_effect[shop] + good_effect[good] + customer_effect[customer] + random.normal(0.0, 0.6)))
        day = np.datetime64("2024-01-01") + random.integers(366)
        text = "/".join(reversed(str(day).split("-")))
        shown = f"{-amount if row < returns else amount:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")
        who = "" if row % 20 == 7 else customers[customer]
        own = [f"{100_000 + row}"] if with_id else []
        lines.append(";".join([*own, text, who, shop, kind, good, shown, "ja" if random.random() < 0.3 else "nein"]))
    lines += [lines[at] for at in random.choice(rows, duplicates, replace=False)]
    random.shuffle(lines)
    head = [*(["Bestell-Nr"] if with_id else []), "Datum", "Kunde", "Filiale", "Waren/Gruppe", "Artikel", "Betrag", "Aktion"]
    path.write_text("\n".join([";".join(head), *lines]) + "\n", encoding=encoding)
