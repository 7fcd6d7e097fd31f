"""The desk's first tables, and the triggers that keep the audit log as it was written."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None

KEPT = "the audit log is append-only"
SQLITE = "CREATE TRIGGER desk_audit_{what} BEFORE {what} ON desk_audit BEGIN SELECT RAISE(ABORT, '{said}'); END"
POSTGRESQL = """CREATE FUNCTION desk_audit_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{said}'; END $$;
CREATE TRIGGER desk_audit_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON desk_audit EXECUTE FUNCTION desk_audit_kept()"""


def upgrade() -> None:
    """Bring the tables to this revision."""
    op.create_table(
        "desk_accounts",
        sql.Column("id", sql.Integer(), nullable=False),
        sql.Column("name", sql.String(length=80), nullable=False),
        sql.Column("pseudonym", sql.String(length=40), nullable=False),
        sql.Column("roles", sql.JSON(), nullable=False),
        sql.Column("password", sql.String(length=200), nullable=True),
        sql.Column("active", sql.Boolean(), nullable=False),
        sql.Column("created_at", sql.Float(), nullable=False),
        sql.Column("consented_at", sql.Float(), nullable=True),
        sql.Column("admitted_at", sql.Float(), nullable=True),
        sql.PrimaryKeyConstraint("id", name=op.f("pk_desk_accounts")),
        sql.UniqueConstraint("name", name=op.f("uq_desk_accounts_name")),
        sql.UniqueConstraint("pseudonym", name=op.f("uq_desk_accounts_pseudonym")),
    )
    op.create_table(
        "desk_audit",
        sql.Column("number", sql.Integer(), autoincrement=False, nullable=False),
        sql.Column("at", sql.Float(), nullable=False),
        sql.Column("actor", sql.String(length=40), nullable=False),
        sql.Column("action", sql.String(length=40), nullable=False),
        sql.Column("subject", sql.String(length=200), nullable=False),
        sql.Column("detail", sql.String(), nullable=False),
        sql.Column("hash", sql.String(length=64), nullable=False),
        sql.PrimaryKeyConstraint("number", name=op.f("pk_desk_audit")),
    )
    op.create_table(
        "desk_batches",
        sql.Column("id", sql.Integer(), nullable=False),
        sql.Column("name", sql.String(length=80), nullable=False),
        sql.Column("kind", sql.String(length=20), nullable=False),
        sql.Column("guidelines", sql.String(), nullable=False),
        sql.Column("overlap", sql.Integer(), nullable=False),
        sql.Column("screening", sql.Boolean(), nullable=False),
        sql.Column("created_at", sql.Float(), nullable=False),
        sql.Column("open", sql.Boolean(), nullable=False),
        sql.PrimaryKeyConstraint("id", name=op.f("pk_desk_batches")),
        sql.UniqueConstraint("name", name=op.f("uq_desk_batches_name")),
    )
    op.create_table(
        "desk_chats",
        sql.Column("id", sql.Integer(), nullable=False),
        sql.Column("account_id", sql.Integer(), nullable=False),
        sql.Column("target", sql.String(length=300), nullable=False),
        sql.Column("family", sql.String(length=40), nullable=False),
        sql.Column("messages", sql.JSON(), nullable=False),
        sql.Column("started_at", sql.Float(), nullable=False),
        sql.ForeignKeyConstraint(["account_id"], ["desk_accounts.id"], name=op.f("fk_desk_chats_account_id"), ondelete="CASCADE"),
        sql.PrimaryKeyConstraint("id", name=op.f("pk_desk_chats")),
    )
    op.create_index(op.f("ix_desk_chats_account_id"), "desk_chats", ["account_id"], unique=False)
    op.create_table(
        "desk_items",
        sql.Column("id", sql.Integer(), nullable=False),
        sql.Column("batch_id", sql.Integer(), nullable=False),
        sql.Column("key", sql.String(length=200), nullable=False),
        sql.Column("prompt", sql.String(), nullable=False),
        sql.Column("asks_prompt", sql.Boolean(), nullable=False),
        sql.Column("category", sql.String(length=80), nullable=False),
        sql.Column("source", sql.String(length=40), nullable=False),
        sql.Column("samples", sql.JSON(), nullable=False),
        sql.Column("reference", sql.JSON(none_as_null=True), nullable=True),
        sql.Column("everybody", sql.Boolean(), nullable=False),
        sql.Column("value", sql.Float(), nullable=False),
        sql.Column("draw", sql.Float(), nullable=False),
        sql.Column("withheld", sql.Boolean(), nullable=False),
        sql.ForeignKeyConstraint(["batch_id"], ["desk_batches.id"], name=op.f("fk_desk_items_batch_id"), ondelete="CASCADE"),
        sql.PrimaryKeyConstraint("id", name=op.f("pk_desk_items")),
        sql.UniqueConstraint("batch_id", "key", name=op.f("uq_desk_items_batch_id_key")),
    )
    op.create_index(op.f("ix_desk_items_batch_id"), "desk_items", ["batch_id"], unique=False)
    op.create_table(
        "desk_sessions",
        sql.Column("token", sql.String(length=64), nullable=False),
        sql.Column("account_id", sql.Integer(), nullable=False),
        sql.Column("csrf", sql.String(length=64), nullable=False),
        sql.Column("expires_at", sql.Float(), nullable=False),
        sql.ForeignKeyConstraint(["account_id"], ["desk_accounts.id"], name=op.f("fk_desk_sessions_account_id"), ondelete="CASCADE"),
        sql.PrimaryKeyConstraint("token", name=op.f("pk_desk_sessions")),
    )
    op.create_index(op.f("ix_desk_sessions_account_id"), "desk_sessions", ["account_id"], unique=False)
    op.create_table(
        "desk_assignments",
        sql.Column("id", sql.Integer(), nullable=False),
        sql.Column("item_id", sql.Integer(), nullable=False),
        sql.Column("account_id", sql.Integer(), nullable=False),
        sql.Column("slot", sql.Integer(), nullable=True),
        sql.Column("shown", sql.JSON(), nullable=False),
        sql.Column("at_random", sql.Boolean(), nullable=False),
        sql.Column("state", sql.String(length=20), nullable=False),
        sql.Column("assigned_at", sql.Float(), nullable=False),
        sql.Column("saved_at", sql.Float(), nullable=False),
        sql.Column("ended_at", sql.Float(), nullable=True),
        sql.Column("seconds", sql.Float(), nullable=False),
        sql.Column("answer", sql.JSON(none_as_null=True), nullable=True),
        sql.Column("reason", sql.String(), nullable=False),
        sql.Column("grade", sql.Float(), nullable=True),
        sql.ForeignKeyConstraint(["account_id"], ["desk_accounts.id"], name=op.f("fk_desk_assignments_account_id"), ondelete="CASCADE"),
        sql.ForeignKeyConstraint(["item_id"], ["desk_items.id"], name=op.f("fk_desk_assignments_item_id"), ondelete="CASCADE"),
        sql.PrimaryKeyConstraint("id", name=op.f("pk_desk_assignments")),
        sql.UniqueConstraint("item_id", "account_id", name=op.f("uq_desk_assignments_item_id_account_id")),
        sql.UniqueConstraint("item_id", "slot", name=op.f("uq_desk_assignments_item_id_slot")),
    )
    op.create_index(op.f("ix_desk_assignments_account_id"), "desk_assignments", ["account_id"], unique=False)
    op.create_index(op.f("ix_desk_assignments_item_id"), "desk_assignments", ["item_id"], unique=False)
    op.create_table(
        "desk_findings",
        sql.Column("id", sql.Integer(), nullable=False),
        sql.Column("account_id", sql.Integer(), nullable=True),
        sql.Column("item_id", sql.Integer(), nullable=True),
        sql.Column("title", sql.String(length=200), nullable=False),
        sql.Column("target", sql.String(length=300), nullable=False),
        sql.Column("family", sql.String(length=40), nullable=False),
        sql.Column("category", sql.String(length=40), nullable=False),
        sql.Column("severity", sql.Integer(), nullable=False),
        sql.Column("messages", sql.JSON(), nullable=False),
        sql.Column("repeats", sql.Integer(), nullable=True),
        sql.Column("state", sql.String(length=20), nullable=False),
        sql.Column("reported_at", sql.Float(), nullable=False),
        sql.Column("decided_at", sql.Float(), nullable=True),
        sql.Column("decided_by", sql.String(length=80), nullable=False),
        sql.Column("note", sql.String(), nullable=False),
        sql.Column("better", sql.String(), nullable=False),
        sql.Column("boundary", sql.JSON(), nullable=False),
        sql.ForeignKeyConstraint(["account_id"], ["desk_accounts.id"], name=op.f("fk_desk_findings_account_id"), ondelete="SET NULL"),
        sql.ForeignKeyConstraint(["item_id"], ["desk_items.id"], name=op.f("fk_desk_findings_item_id"), ondelete="SET NULL"),
        sql.ForeignKeyConstraint(["repeats"], ["desk_findings.id"], name=op.f("fk_desk_findings_repeats"), ondelete="SET NULL"),
        sql.PrimaryKeyConstraint("id", name=op.f("pk_desk_findings")),
    )
    op.create_index(op.f("ix_desk_findings_account_id"), "desk_findings", ["account_id"], unique=False)

    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(SQLITE.format(what=what, said=KEPT))
    else:
        op.execute(POSTGRESQL.format(said=KEPT))


def downgrade() -> None:
    """Take everything away."""
    for table in ("findings", "assignments", "sessions", "items", "chats", "batches", "audit", "accounts"):
        op.drop_table(f"desk_{table}")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION desk_audit_kept")
