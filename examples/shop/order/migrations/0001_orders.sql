CREATE TABLE orders (
    -- Begins with the time it was made, so that ids sort by age.
    id              TEXT    NOT NULL PRIMARY KEY,
    customer_id     TEXT    NOT NULL,
    idempotency_key TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('PENDING', 'PLACED', 'CANCELLED', 'ABANDONED')),
    -- Which attempt at placing it this is. Each has a reservation of its own.
    attempt         INTEGER NOT NULL,
    -- Whether the inventory has heard how the attempt ended.
    settled         INTEGER NOT NULL CHECK (settled IN (0, 1)),
    -- Counts changes: who changes an order says which version it has seen.
    version         INTEGER NOT NULL,
    -- Milliseconds since 1970.
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    UNIQUE (customer_id, idempotency_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX orders_by_customer ON orders (customer_id, id);
CREATE INDEX orders_unsettled ON orders (updated_at) WHERE settled = 0;

CREATE TABLE order_lines (
    order_id   TEXT    NOT NULL REFERENCES orders (id),
    item_id    TEXT    NOT NULL,
    title      TEXT    NOT NULL,
    quantity   INTEGER NOT NULL CHECK (quantity > 0),
    currency   TEXT    NOT NULL,
    unit_price INTEGER NOT NULL,
    PRIMARY KEY (order_id, item_id)
) STRICT, WITHOUT ROWID;
