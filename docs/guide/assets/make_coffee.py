"""A small warehouse to practise on: orders of coffee bars, in coffee.duckdb."""

import duckdb
import numpy as np
import pandas as pd

random = np.random.default_rng(11)
stores = pd.DataFrame(
    {"store_id": range(24), "region": np.repeat(["North", "South", "Lake"], 8)}
)
guests = pd.DataFrame({"guest_id": range(400), "member": random.random(400) < 0.4})
coffees = ["espresso", "filter", "latte", "mocha", "cortado", "flat white"]
teas, bakes = ["green", "black", "chai", "herbal"], ["scone", "bun", "brownie", "tart"]
drinks = pd.DataFrame(
    {
        "sku": range(14),
        "kind": ["coffee"] * 6 + ["tea"] * 4 + ["bakery"] * 4,
        "drink": [*coffees, *teas, *bakes],
    }
)
n = 20_000
store = random.choice(24, n, p=random.dirichlet(np.full(24, 0.7)))
guest, sku = random.integers(400, size=n), random.integers(14, size=n)
log_price = (
    1.4
    + random.normal(0, 0.15, 24)[store]
    + random.normal(0, 0.3, 14)[sku]
    + random.normal(0, 0.2, 400)[guest]
    + random.normal(0, 0.25, n)
)
orders = pd.DataFrame(
    {
        "order_id": range(n),
        "ordered_at": pd.Timestamp("2026-01-01")
        + pd.to_timedelta(random.integers(0, 180, n), "D"),
        "store_id": store,
        "guest_id": guest,
        "sku": sku,
        "paid": np.round(np.exp(log_price), 2) * np.where(np.arange(n) % 97, 1, -1),
    }
)
tables = {"orders": orders, "stores": stores, "guests": guests, "drinks": drinks}
with duckdb.connect("coffee.duckdb") as warehouse:
    for name, frame in tables.items():
        warehouse.register("frame", frame)
        warehouse.execute(f"create table {name} as select * from frame")
print(len(orders), "orders")
