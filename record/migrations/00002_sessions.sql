-- Sessions that are confirmed, rejoin-requests, recipients of session keys, more
-- sinks of join events, and what a restored record has to know.
--
-- A program that knows only 00001 goes on working beside one that knows this: no
-- column is gone, new ones have a default, and what it writes without knowing them
-- is right.

-- +goose Up

-- Network servers that send join-accepts themselves use the RxDelay and RX2 data
-- rate of the permission, or are refused.
ALTER TABLE join_permissions ADD COLUMN require_own BOOLEAN NOT NULL DEFAULT FALSE;

-- A session is confirmed when this is its own JoinNonce: a program that does not
-- know the column leaves behind that of the session which was in the slot before,
-- and no JoinNonce comes twice.
--
-- The slot of a session is no longer always its JoinNonce modulo 2: a new session
-- takes the slot of the one that it ends. A row with dev_addr -1 is no session, it
-- only holds how far JoinNonce has come.
ALTER TABLE sessions ADD COLUMN confirmed_nonce BIGINT NOT NULL DEFAULT 0;

-- The rejoin-requests that a device has sent. RJcount1 (type 1) has a row for each
-- JoinEUI; RJcount0 (types 0 and 2) one with an empty JoinEUI, for the newest
-- session that it was used in.
CREATE TABLE rejoin_counts (
    dev_eui         TEXT NOT NULL,
    join_eui        TEXT NOT NULL,
    session         BIGINT NOT NULL, -- of RJcount0: the session's JoinNonce
    rj_count        BIGINT NOT NULL,
    mic             BIGINT NOT NULL,
    answer_until_ms BIGINT NOT NULL, -- RX2 of the frame: an equal one is a copy until then
    PRIMARY KEY (dev_eui, join_eui)
) /* sqlite WITHOUT ROWID */;

-- The keys that accounts have registered for their servers, to wrap session keys.
CREATE TABLE account_keks (
    account_id BIGINT NOT NULL,
    recipient  TEXT NOT NULL, -- ns or as
    label      TEXT NOT NULL,
    sealed_kek BYTEA NOT NULL,
    PRIMARY KEY (account_id, recipient)
) /* sqlite WITHOUT ROWID */;

-- Join events that wait for a sink other than MQTT, whose are in outbox.
CREATE TABLE outbox_sinks (
    sink         TEXT NOT NULL,
    committed_ms BIGINT NOT NULL,
    dev_eui      TEXT NOT NULL,
    join_nonce   BIGINT NOT NULL,
    account_id   BIGINT NOT NULL,
    payload      BYTEA NOT NULL,
    PRIMARY KEY (sink, committed_ms, dev_eui, join_nonce)
) /* sqlite WITHOUT ROWID */;

-- There when the record was restored from a backup: the JoinNonce that devices
-- begin beyond which are registered anew, for they may have been registered and
-- have joined after the backup.
CREATE TABLE restored (
    only_row         INTEGER PRIMARY KEY CHECK (only_row = 1),
    join_nonce_floor BIGINT NOT NULL
);
