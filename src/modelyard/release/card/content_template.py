# ruff: noqa: E501
"""The page of the public summary of training content (jinja2, autoescaped). In code rather than a file so that changing it rebuilds it."""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">{{ nothing_remote }}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }}: public summary of training content</title>
<link rel="icon" href="data:,">
<style>{{ style }}
.blank { color: var(--hold); font-weight: 600; }
h2 .soft { font-weight: 400; margin-right: .4rem; }
</style>
</head>
<body><main>
<header><h1>{{ name }}: public summary of training content</h1>
<p class="soft">For Article 53(1)(d) of Regulation (EU) 2024/1689, by the questions of the European Commission's template of July 2025. Made from the lineage of this release.
{% if blanks %}<b class="blank">{{ blanks | length }} answers are to be stated.</b>{% else %}Every question has an answer.{% endif %}</p></header>
{% for section in sections %}<section><h2><span class="soft">{{ section.number }}</span>{{ section.title }}</h2>
<dl>{% for answer in section.answers %}<dt>{{ answer.question }}</dt><dd>{% if answer.said %}{{ answer.said }}{% else %}<span class="blank">To be stated:</span> <code>{{ answer.key }}</code>{% endif %}</dd>
{% endfor %}</dl>
{% if section.sources %}<div class="scroll"><table><thead><tr><th>Source</th><th>What</th><th>Licence</th><th>Size</th><th>Collected</th></tr></thead><tbody>
{% for source in section.sources %}<tr><td>{{ source.name }}</td><td>{{ source.what }}{% if source.link %}<br><span class="soft small">{{ source.link }}</span>{% endif %}</td>
<td>{{ source.licence }}</td><td>{{ source.size }}</td><td>{{ source.collected or "not stated" }}</td></tr>
{% endfor %}</tbody></table></div>{% endif %}</section>
{% endfor %}
<p class="source">Made again by <code>modelyard summary {{ name }}</code>; answers stand in the config under <code>[release.training_content]</code>.</p>
</main>{{ sorting }}</body></html>
"""
