-- One file for SQLite and PostgreSQL. EUIs are lower-case hex; times are UNIX
-- milliseconds. A version is the revision at which its row was last changed.
--
-- What SQLite is to read and PostgreSQL is not stands in a comment that begins
-- with the word sqlite. PostgreSQL reads TEXT as TEXT COLLATE "C", so that text
-- compares octet by octet on both.

-- +goose Up

-- The one counter of the record. Every administrative write takes the next
-- revision, so such writes happen one after the other; new rows take theirs as
-- their id, and no id and no version ever comes again.
CREATE TABLE revision (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    value    BIGINT NOT NULL
);
INSERT INTO revision (only_row, value) VALUES (1, 1000);

-- A constant sealed under the key encryption key, to know the right key by.
CREATE TABLE key_check (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    sealed   BYTEA NOT NULL
);

CREATE TABLE accounts (
    id                          BIGINT PRIMARY KEY,
    name                        TEXT NOT NULL UNIQUE,
    instance_id                 TEXT NOT NULL,
    product_activated           BOOLEAN NOT NULL,
    features                    TEXT NOT NULL, -- comma-separated
    risk_control                BOOLEAN NOT NULL,
    roaming_gateways            BOOLEAN NOT NULL,
    local_join_permission_limit BIGINT NOT NULL,
    node_limit                  BIGINT NOT NULL, -- 0: none
    gateway_limit               BIGINT NOT NULL, -- 0: none
    created_ms                  BIGINT NOT NULL
);

CREATE TABLE users (
    account_id BIGINT NOT NULL,
    name       TEXT NOT NULL,
    policy     TEXT NOT NULL,
    PRIMARY KEY (account_id, name)
);

CREATE TABLE access_keys (
    id            TEXT PRIMARY KEY,
    account_id    BIGINT NOT NULL,
    user_name     TEXT NOT NULL, -- empty: the account itself
    sealed_secret BYTEA NOT NULL,
    enabled       BOOLEAN NOT NULL
);

CREATE TABLE join_permissions (
    id              BIGINT PRIMARY KEY,
    version         BIGINT NOT NULL,
    type            TEXT NOT NULL,
    owner_id        BIGINT NOT NULL, -- 0: issued by the platform
    renter_id       BIGINT NOT NULL, -- 0: nobody
    name_account_id BIGINT NOT NULL, -- the account whose names it belongs to
    name            TEXT NOT NULL,
    instance_id     TEXT NOT NULL,
    enabled         BOOLEAN NOT NULL,
    auth_state      TEXT NOT NULL,
    join_eui        TEXT NOT NULL,
    band_plan_group BIGINT NOT NULL,
    class_mode      TEXT NOT NULL,
    rx_delay_s      BIGINT NOT NULL,
    data_rate       BIGINT, -- NULL: never set, follows the band plan group
    created_ms      BIGINT NOT NULL,
    UNIQUE (name_account_id, name)
) /* sqlite WITHOUT ROWID */;
CREATE INDEX join_permissions_renter ON join_permissions (renter_id);

CREATE TABLE node_groups (
    id            BIGINT PRIMARY KEY,
    version       BIGINT NOT NULL,
    account_id    BIGINT NOT NULL,
    name          TEXT NOT NULL,
    instance_id   TEXT NOT NULL,
    permission_id BIGINT UNIQUE, -- NULL: bound to none
    dispatch      TEXT NOT NULL, -- JSON
    created_ms    BIGINT NOT NULL,
    UNIQUE (account_id, name)
) /* sqlite WITHOUT ROWID */;

CREATE TABLE orders (
    id            BIGINT PRIMARY KEY,
    permission_id BIGINT NOT NULL,
    owner_id      BIGINT NOT NULL,
    renter_id     BIGINT NOT NULL,
    state         TEXT NOT NULL,
    applying_ms   BIGINT NOT NULL,
    accepted_ms   BIGINT NOT NULL,
    rejected_ms   BIGINT NOT NULL,
    canceled_ms   BIGINT NOT NULL
);
CREATE INDEX orders_permission ON orders (permission_id);

-- Nodes of an import are staged in small transactions and come into force
-- together, when the import does.
CREATE TABLE imports (
    id       BIGINT PRIMARY KEY,
    in_force BOOLEAN NOT NULL
);

CREATE TABLE nodes (
    dev_eui     TEXT PRIMARY KEY,
    version     BIGINT NOT NULL,
    account_id  BIGINT NOT NULL, -- 0: in stock
    group_id    BIGINT,
    enabled     BOOLEAN NOT NULL,
    mac_version TEXT NOT NULL,
    sealed_app  BYTEA,
    sealed_nwk  BYTEA,
    pin_code    TEXT NOT NULL,
    import_id   BIGINT, -- NULL: in force
    created_ms  BIGINT NOT NULL,
    bound_ms    BIGINT NOT NULL -- when it came into its group; 0: in none
) /* sqlite WITHOUT ROWID */;
CREATE INDEX nodes_group ON nodes (group_id);
CREATE INDEX nodes_account ON nodes (account_id);
CREATE INDEX nodes_import ON nodes (import_id);

CREATE TABLE gateways (
    gw_eui                TEXT PRIMARY KEY,
    version               BIGINT NOT NULL,
    account_id            BIGINT NOT NULL, -- 0: in stock
    enabled               BOOLEAN NOT NULL,
    band_plan_group       BIGINT NOT NULL,
    pin_code              TEXT NOT NULL,
    instance_id           TEXT NOT NULL,
    name                  TEXT NOT NULL,
    description           TEXT NOT NULL,
    city                  TEXT NOT NULL,
    district              TEXT NOT NULL,
    address               TEXT NOT NULL,
    address_code          BIGINT NOT NULL,
    communication_mode    TEXT NOT NULL,
    gis_coordinate_system TEXT NOT NULL,
    longitude             DOUBLE PRECISION NOT NULL, -- degrees
    latitude              DOUBLE PRECISION NOT NULL, -- degrees
    online                BOOLEAN NOT NULL,
    online_changed_ms     BIGINT NOT NULL, -- 0: never seen
    created_ms            BIGINT NOT NULL
) /* sqlite WITHOUT ROWID */;
CREATE INDEX gateways_account ON gateways (account_id);

-- When gateways came online and went offline, for the account that holds them.
CREATE TABLE gateway_states (
    gw_eui     TEXT NOT NULL,
    changed_ms BIGINT NOT NULL,
    online     BOOLEAN NOT NULL,
    PRIMARY KEY (gw_eui, changed_ms)
);

CREATE TABLE notifications (
    id         BIGINT PRIMARY KEY,
    account_id BIGINT NOT NULL,
    category   TEXT NOT NULL,
    notice_ms  BIGINT NOT NULL,
    handled_ms BIGINT NOT NULL, -- 0: unhandled
    content    TEXT NOT NULL -- JSON
);
CREATE INDEX notifications_account ON notifications (account_id);

-- What joins write. These rows outlive their node, so that a DevEUI which is
-- removed and imported again goes on where it was.

CREATE TABLE dev_nonces (
    dev_eui         TEXT NOT NULL,
    join_eui        TEXT NOT NULL,
    dev_nonce       BIGINT NOT NULL,
    mic             BIGINT NOT NULL,
    answer_until_ms BIGINT NOT NULL, -- RX2 of the frame: an equal one is a copy until then
    PRIMARY KEY (dev_eui, join_eui, dev_nonce)
) /* sqlite WITHOUT ROWID */;

-- The newest session of a device and the one before it: slot is JoinNonce modulo
-- 2, so a new session takes the place of the last but one.
CREATE TABLE sessions (
    dev_eui         TEXT NOT NULL,
    slot            BIGINT NOT NULL,
    join_nonce      BIGINT NOT NULL,
    dev_addr        BIGINT NOT NULL,
    live            BOOLEAN NOT NULL, -- false: the node was removed
    join_eui        TEXT NOT NULL,
    dev_nonce       BIGINT NOT NULL,
    account_id      BIGINT NOT NULL,
    group_id        BIGINT NOT NULL,
    permission_id   BIGINT NOT NULL,
    gateway         TEXT NOT NULL,
    mac_version     TEXT NOT NULL,
    class_mode      TEXT NOT NULL,
    band_plan_group BIGINT NOT NULL,
    net_id          TEXT NOT NULL,
    rx_delay_s      BIGINT NOT NULL,
    dl_settings     BIGINT NOT NULL,
    cf_list         BYTEA,
    joined_ms       BIGINT NOT NULL,
    PRIMARY KEY (dev_eui, slot)
) /* sqlite WITHOUT ROWID */;
CREATE INDEX sessions_dev_addr ON sessions (dev_addr) WHERE live;

-- Join events that wait for delivery, in the order of their commits.
CREATE TABLE outbox (
    committed_ms BIGINT NOT NULL,
    dev_eui      TEXT NOT NULL,
    join_nonce   BIGINT NOT NULL,
    account_id   BIGINT NOT NULL,
    payload      BYTEA NOT NULL,
    PRIMARY KEY (committed_ms, dev_eui, join_nonce)
) /* sqlite WITHOUT ROWID */;

-- Who changed what. One line per write; its changes are one JSON array.
CREATE TABLE audit (
    revision      BIGINT PRIMARY KEY,
    at_ms         BIGINT NOT NULL,
    account_id    BIGINT NOT NULL,
    user_name     TEXT NOT NULL,
    access_key_id TEXT NOT NULL,
    from_address  TEXT NOT NULL,
    action        TEXT NOT NULL,
    request_id    TEXT NOT NULL,
    changes       TEXT NOT NULL
);

CREATE TABLE signature_nonces (
    access_key_id TEXT NOT NULL,
    nonce         TEXT NOT NULL,
    at_ms         BIGINT NOT NULL,
    PRIMARY KEY (access_key_id, nonce)
);
CREATE INDEX signature_nonces_at ON signature_nonces (at_ms);
