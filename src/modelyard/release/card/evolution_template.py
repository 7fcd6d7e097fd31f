# ruff: noqa: E501
"""The page of versions one after another (jinja2, autoescaped). In code rather than a file so that changing it rebuilds it."""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">{{ nothing_remote }}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<link rel="icon" href="data:,">
<style>{{ style }}
td:first-child { min-width: 9rem; }
</style>
</head>
<body><main>
<header><h1>{{ title }}</h1>
<p class="soft">95% intervals over items; the second line of a cell is the change from the version before. A dash: not measured, or measured by
another benchmark id than the newest version.</p></header>
{% if rows %}<section><h2>Versions</h2><div class="scroll"><table><thead><tr><th>Benchmark</th>{% for name in versions %}<th class="n">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr><td>{{ row.name }} ({{ row.metric }})</td>{% for cell in row.cells %}<td class="n">{{ cell.text }}
{% if cell.change is not none %}<br><span class="soft small">{{ '%+.4f'|format(cell.change) }}</span>{% endif %}</td>
{% endfor %}</tr>{% endfor %}</tbody></table></div></section>
{% if evolution %}<div class="grid">{% for caption, svg in evolution %}<figure><figcaption>{{ caption }}</figcaption>{{ svg|safe }}</figure>
{% endfor %}</div>{% endif %}{% endif %}
{% for item in analyses %}<section><h2>{{ item.analysis }}: {{ item.benchmark }} ({{ item.label }})</h2><div class="scroll"><table>
<thead><tr><th>Variant</th><th class="n">score</th><th class="n">standard error</th><th class="n">95% interval</th><th class="n">n</th></tr></thead>
<tbody>{% for name, s in item.scores.items() %}<tr><td>{{ name }}</td><td class="n">{{ '%.4f'|format(s.value) }}</td><td class="n">{{ number(s.stderr) }}</td>
<td class="n">{{ number(s.low) }} to {{ number(s.high) }}</td><td class="n">{{ s.n }}</td></tr>{% endfor %}</tbody></table></div>
<p>Spread: {{ '%.4f'|format(item.spread.lowest) }} to {{ '%.4f'|format(item.spread.highest) }}, standard
deviation {{ '%.4f'|format(item.spread.deviation) }} between variants.</p>{{ item.figure|safe }}</section>{% endfor %}
<p class="source">Made again by <code>modelyard page evolution.html LABEL=RESULTS...</code>, with the directories of the versions' results, oldest first.</p>
</main>{{ sorting }}</body></html>
"""
