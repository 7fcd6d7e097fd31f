"""Findings name the expert who decided by pseudonym, as every record does; until now by name, which was exported.

Whoever has no account any more is not named.
"""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Pseudonyms in the place of names."""
    known = "SELECT pseudonym FROM desk_accounts WHERE desk_accounts.name = desk_findings.decided_by"
    op.execute(sql.text(f"UPDATE desk_findings SET decided_by = COALESCE(({known}), '')"))


def downgrade() -> None:
    """Names are not brought back."""
