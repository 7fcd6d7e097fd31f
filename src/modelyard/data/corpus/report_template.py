# ruff: noqa: E501
"""The data report's page (jinja2, autoescaped). In code rather than a file so that changing it rebuilds the report."""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">{{ nothing_remote }}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }}: data report</title>
<link rel="icon" href="data:,">
<style>{{ style }}
section { overflow-x: auto; }
td.track { width: 34%; min-width: 120px; }
.track div { position: relative; height: 1.1em; background: var(--bg); border-radius: 3px; }
.track i { position: absolute; top: 0; bottom: 0; border-radius: 3px; min-width: 2px; }
.read i, .kept i { background: var(--third); } .refused i { background: var(--second); }
.bars { display: flex; align-items: flex-end; gap: 2px; height: 140px; }
.bars div { flex: 1; background: var(--first); min-height: 1px; border-radius: 2px 2px 0 0; }
.axis { display: flex; justify-content: space-between; font-size: .8rem; color: var(--soft); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 6px 0 12px; max-height: 14em; overflow-y: auto; }
summary { font-weight: 600; overflow-wrap: anywhere; }
</style>
</head>
<body><main>
<h1>{{ name }}</h1>
<p class="soft">{{ "{:,}".format(kept.documents) }} of {{ "{:,}".format(read.documents) }} documents kept, {{ size(kept.bytes) }} of {{ size(read.bytes) }}.</p>

<section><h2>What became of every document</h2>
<table class="fixed"><thead><tr><th>step</th><th class="n">documents</th><th class="n">bytes</th><th class="n">left</th><th></th></tr></thead><tbody>
{% for step in steps %}<tr><td>{% if step.kind == "refused" and step.name in samples %}<a href="#{{ step.name }}">{{ step.name }}</a>{% else %}<b>{{ step.name }}</b>{% endif %}</td>
<td class="n">{{ "-" if step.kind == "refused" and step.documents }}{{ "{:,}".format(step.documents) }}</td><td class="n">{{ size(step.bytes) }}</td><td class="n">{{ "{:,}".format(step.left) }}</td>
<td class="track {{ step.kind }}"><div>{% set whole = [read.documents, 1] | max %}<i style="left:{{ 100 * step.left / whole if step.kind == 'refused' else 0 }}%;width:{{ 100 * step.documents / whole }}%"></i></div></td></tr>
{% endfor %}</tbody></table></section>

<div class="grid">
{% for title, rows in (("Sources", by_source), ("Languages", by_language), ("Splits", by_split), ("Licences", by_licence)) %}
<section><h2>{{ title }}</h2><table><thead><tr><th></th><th class="n">documents</th><th class="n">bytes</th><th class="n">share</th></tr></thead><tbody>
{% for row in rows %}<tr><td>{{ row[0] }}</td><td class="n">{{ "{:,}".format(row[1]) }}</td><td class="n">{{ size(row[2]) }}</td><td class="n">{{ "%.1f%%" % (100 * row[3]) }}</td></tr>
{% endfor %}</tbody></table></section>
{% endfor %}
<section><h2>Length of kept documents, bytes</h2>
<div class="bars">{% for label, count, height in lengths %}<div style="height:{{ 100 * height }}%" title="from {{ label }} bytes: {{ count }}"></div>{% endfor %}</div>
<div class="axis">{% if lengths %}<span>{{ lengths[0][0] }}</span><span>{{ lengths[-1][0] }}</span>{% endif %}</div></section>
{% if scores %}<section><h2>Quality score of kept documents</h2>
<div class="bars">{% for label, count, height in scores %}<div style="height:{{ 100 * height }}%" title="from {{ label }}: {{ count }}"></div>{% endfor %}</div>
<div class="axis"><span>{{ scores[0][0] }}</span><span>{{ scores[-1][0] }}</span></div></section>{% endif %}
<section><h2>Personal data redacted</h2>{% if redacted %}<table><tbody>
{% for kind, count in redacted.items() %}<tr><td>{{ kind }}</td><td class="n">{{ "{:,}".format(count) }}</td></tr>{% endfor %}</tbody></table>{% else %}<p class="soft">None was found.</p>{% endif %}</section>
<section><h2>Characters cut out of kept documents</h2>{% if cut %}<table><tbody>
{% for rule, count in cut.items() %}<tr><td>{{ rule }}</td><td class="n">{{ "{:,}".format(count) }}</td></tr>{% endfor %}</tbody></table>{% else %}<p class="soft">None were.</p>{% endif %}</section>
</div>

<section><h2>Abuse filter</h2><p>{{ abuse.origin }}{% if abuse.precision is not defined %}: not measured here{% endif %}.</p>
{% if abuse.precision is defined %}<table><thead><tr><th>on held-out labels</th><th class="n">value</th><th class="n">95% interval</th><th class="n">texts</th></tr></thead><tbody>
{% for name, value in abuse.items() if value is mapping %}<tr><td>{{ name.replace("_", " ") }}</td><td class="n">{{ "%.3f"|format(value.value) }}</td>
<td class="n">{{ "%.3f to %.3f"|format(value.low, value.high) }}</td><td class="n">{{ value.n }}</td></tr>
{% endfor %}</tbody></table>{% endif %}</section>
<section><h2>What each rule dropped</h2>
{% for reason, rows in samples.items() %}<details id="{{ reason }}"><summary>{{ reason }}</summary>
{% for row in rows %}<div class="soft"><code>{{ row.id }}</code> {{ row.place }}{% if row.detail %} &middot; {{ row.detail }}{% endif %}</div><pre>{{ row.text or "(empty)" }}</pre>
{% endfor %}</details>{% endfor %}</section>

<section><h2>Expectations</h2><table><thead><tr><th>suite</th><th>expectation</th><th>result</th><th>observed</th></tr></thead><tbody>
{% for suite in suites %}{% for result in suite.results %}<tr><td>{{ suite.suite }}</td><td>{{ result.name }}</td><td class="{{ 'ok' if result.success else 'bad' }}">{{ "holds" if result.success else "fails" }}</td><td>{{ result.detail }}</td></tr>
{% endfor %}{% endfor %}</tbody></table></section>

<section><h2>Sources as declared</h2><table><thead><tr><th>name</th><th>file or package</th><th>format</th><th>licence</th><th>sha256</th></tr></thead><tbody>
{% for source in sources %}<tr><td>{{ source.name }}</td><td>{{ source.path or (source.package ~ " " ~ source.version) }}</td><td>{{ source.format }}</td><td>{{ source.licence }}</td>
<td><code>{{ (source.sha256 or source.files[0])[:16] if source.sha256 or source.files else "" }}</code>{% if source.files | length > 1 %} and {{ source.files | length - 1 }} more{% endif %}</td></tr>
{% endfor %}</tbody></table>
{% for source in sources if source.left_out %}<p class="soft">Left out of {{ source.name }} as no data: {{ source.left_out | join(", ") }}.</p>{% endfor %}</section>
<p class="source">Made by <code>modelyard data</code> or <code>modelyard run</code> of the config whose corpus this is; the numbers are in
<code>statistics.json</code> beside this page.</p>
</main>{{ sorting }}</body></html>
"""
