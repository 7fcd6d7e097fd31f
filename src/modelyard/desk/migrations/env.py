"""Runs the desk's migrations over the connection that :mod:`modelyard.desk.database` hands over."""

from alembic import context

from modelyard.desk.database import VERSION_TABLE
from modelyard.desk.tables import PREFIX, Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    version_table=VERSION_TABLE,
    include_name=lambda name, kind, _: kind != "table" or (str(name).startswith(PREFIX) and name != VERSION_TABLE),
    sqlalchemy_module_prefix="sql.",
)
context.run_migrations()
