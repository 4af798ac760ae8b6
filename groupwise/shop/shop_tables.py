"""The tables of the shop: columns, types, comments and the keys that truly hold in the data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShopColumn:
    """One column: its name, its DuckDB type (with ``not null`` where that holds) and what it means."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class ShopTable:
    """One table, filled from the query ``sql/shop_<name>.sql``; ``keys`` are SQL table constraints."""

    name: str
    comment: str
    columns: tuple[ShopColumn, ...]
    keys: tuple[str, ...]

    def statements(self) -> list[str]:
        """``create table`` and one ``comment on`` for the table and for each column."""
        lines = [f"{column.name} {column.type}" for column in self.columns] + list(self.keys)
        return [
            f"create table {self.name} ({', '.join(lines)})",
            f"comment on table {self.name} is {_text(self.comment)}",
            *(f"comment on column {self.name}.{column.name} is {_text(column.comment)}" for column in self.columns),
        ]


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


CUSTOMERS = ShopTable(
    "customers",
    "One row per customer (household) that bought anything; two thirds of them gave no demographics, which are then null",
    (
        ShopColumn("customer_id", "bigint not null", "Customer (household)"),
        ShopColumn("has_demographics", "boolean not null", "Whether the customer is in the demographics file"),
        ShopColumn("income_group", "varchar", "Yearly household income band in US dollars, such as 35-49K; null: unknown"),
        ShopColumn("age_group", "varchar", "Age band in years, such as 45-54; null: unknown"),
        ShopColumn("household_size", "varchar", "People in the household: 1 to 4 or 5+; null: unknown"),
        ShopColumn("household_composition", "varchar", "Adults and whether there are children; null: unknown"),
        ShopColumn("home_ownership", "varchar", "Homeowner, renter, or probably either; null: unknown"),
        ShopColumn("marital_status", "varchar", "Married or unmarried; null: unknown"),
        ShopColumn("kids", "varchar", "Children in the household: 0 to 2 or 3+; null: unknown"),
    ),
    ("primary key (customer_id)",),
)

PRODUCTS = ShopTable(
    "products",
    "One row per product of the catalogue; 4,836 line items are of products that it does not list",
    (
        ShopColumn("product_id", "bigint not null", "Product"),
        ShopColumn("manufacturer_id", "bigint not null", "Manufacturer"),
        ShopColumn("department", "varchar not null", "Department, such as GROCERY"),
        ShopColumn("category", "varchar", "Category; the same name can stand under several departments; null: not given"),
        ShopColumn("category_key", "varchar", "Category nested in its department, such as GROCERY / CHEESE; null: category not given"),
        ShopColumn("product_type", "varchar", "Product type inside the category; null: not given"),
        ShopColumn("package_size", "varchar", "Package size as printed, such as 22 OZ; null: not given"),
        ShopColumn("brand", "varchar not null", "National or Private"),
        ShopColumn("is_private_label", "boolean not null", "Whether the product is a store brand"),
        ShopColumn("is_fuel", "boolean not null", "Whether the product is motor fuel, whose quantity is in thousandths of a gallon"),
    ),
    ("primary key (product_id)",),
)

TRANSACTIONS = ShopTable(
    "transactions",
    "One row per line item: one product in one basket",
    (
        ShopColumn("basket_id", "bigint not null", "Basket: one visit of one customer to one store"),
        ShopColumn("product_id", "bigint not null", "Product; 4,836 lines name one that the catalogue does not list: no foreign key"),
        ShopColumn("customer_id", "bigint not null", "Customer (household)"),
        ShopColumn("store_id", "bigint not null", "Store"),
        ShopColumn("transaction_ts", "timestamp not null", "When the basket was paid, the store's local time; the last is on 2018-01-01"),
        ShopColumn("week", "smallint not null", "Week of the study, 1 to 53"),
        ShopColumn("quantity", "integer not null", "Units; for fuel thousandths of a gallon; 0 on 8,869 lines"),
        ShopColumn(
            "amount", "decimal(18, 2) not null", "What the store received, in US dollars, its discounts taken off; 0 on 11,246 lines"
        ),
        ShopColumn("retail_discount", "decimal(18, 2) not null", "Taken off by the store's loyalty card, in US dollars"),
        ShopColumn("coupon_discount", "decimal(18, 2) not null", "Taken off by a manufacturer's coupon, in US dollars"),
        ShopColumn("coupon_match_discount", "decimal(18, 2) not null", "Taken off by the store matching a coupon, in US dollars"),
    ),
    ("primary key (basket_id, product_id)", "foreign key (customer_id) references customers (customer_id)"),
)

CAMPAIGNS = ShopTable(
    "campaigns",
    "One row per marketing campaign",
    (
        ShopColumn("campaign_id", "bigint not null", "Campaign"),
        ShopColumn("campaign_type", "varchar not null", "Type A, B or C"),
        ShopColumn("start_date", "date not null", "First day"),
        ShopColumn("end_date", "date not null", "Last day"),
    ),
    ("primary key (campaign_id)",),
)

CAMPAIGN_CUSTOMERS = ShopTable(
    "campaign_customers",
    "One row per campaign and customer that received it",
    (
        ShopColumn("campaign_id", "bigint not null", "Campaign"),
        ShopColumn("customer_id", "bigint not null", "Customer (household)"),
    ),
    (
        "primary key (campaign_id, customer_id)",
        "foreign key (campaign_id) references campaigns (campaign_id)",
        "foreign key (customer_id) references customers (customer_id)",
    ),
)

COUPONS = ShopTable(
    "coupons",
    "One row per coupon, campaign and product that the coupon is good for",
    (
        ShopColumn("coupon_upc", "bigint not null", "Coupon"),
        ShopColumn("campaign_id", "bigint not null", "Campaign that sent it"),
        ShopColumn("product_id", "bigint not null", "Product; 16 rows name one that the catalogue does not list"),
    ),
    ("primary key (coupon_upc, campaign_id, product_id)", "foreign key (campaign_id) references campaigns (campaign_id)"),
)

REDEMPTIONS = ShopTable(
    "redemptions",
    "One row per coupon redeemed by a customer on a day",
    (
        ShopColumn("customer_id", "bigint not null", "Customer (household)"),
        ShopColumn("coupon_upc", "bigint not null", "Coupon"),
        ShopColumn("campaign_id", "bigint not null", "Campaign that sent it"),
        ShopColumn("redemption_date", "date not null", "Day it was redeemed"),
    ),
    (
        "primary key (customer_id, coupon_upc, campaign_id, redemption_date)",
        "foreign key (campaign_id, customer_id) references campaign_customers (campaign_id, customer_id)",
    ),
)

# in the order in which foreign keys allow them to be filled
TABLES = (CUSTOMERS, PRODUCTS, TRANSACTIONS, CAMPAIGNS, CAMPAIGN_CUSTOMERS, COUPONS, REDEMPTIONS)
