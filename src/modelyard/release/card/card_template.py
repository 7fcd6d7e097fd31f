# ruff: noqa: E501
"""The model card's page (jinja2, autoescaped). In code rather than a file so that changing it rebuilds the card."""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">{{ nothing_remote }}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}: model card</title>
<link rel="icon" href="data:,">
<style>{{ style }}
td { min-width: 6.5rem; } td.n { min-width: 0; } td code { white-space: nowrap; }
.flips, .asked { overflow-wrap: anywhere; }
.asked p { margin: 4px 0; white-space: pre-wrap; } .asked .pictures { margin: 4px 0; }
blockquote { margin: 0 0 14px; padding-left: 14px; border-left: 3px solid var(--line); }
.opening { font-weight: 600; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 14px; }
.pictures img { width: 96px; max-width: 100%; height: auto; background: var(--bg); border: 1px solid var(--line); border-radius: 4px; image-rendering: pixelated; }
.pictures p { margin: 4px 0; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  .gates, .gates tbody, .gates tr, .gates td { display: block; } .gates thead { display: none; } .gates td { border: 0; padding: 2px 0; }
  .gates tr { border-bottom: 1px solid var(--line); padding: 8px 0; } .gates tr:last-child { border: 0; }
}
</style>
</head>
<body><main>
<header>
<h1>{{ title }}</h1>
<p><span class="verdict {{ decision.verdict }}">{{ decision.verdict }}</span>
<span class="soft">{{ parameters }} parameters, {% if ends_with_sft %}fine-tuned on demonstrations{% else %}aligned{% if aligned %} by {{ aligned }}{% endif %}{% if not distilled %} with human ratings{% endif %}{% endif %}. Beside this page: evolution.html, the releases that led to this version, and training_content.html, what it was trained on.</span></p>
</header>

<section><h2>Gates</h2>
<table class="gates"><thead><tr><th>Gate</th><th>Verdict</th><th>Reason</th></tr></thead><tbody>
{% for gate in decision.gates %}<tr><td><b>{{ gate.name }}</b></td><td><span class="verdict small {{ 'aside' if gate.set_aside else gate.verdict }}">{{ gate.shown }}</span></td>
<td>{{ gate.reason }}{% if gate.override %}<br><b>Overridden by {{ gate.override.name }}</b>, {{ gate.override.when }}: {{ gate.override.reason }}{% endif %}</td></tr>
{% endfor %}</tbody></table></section>

{% if objections %}<section><h2>The items that speak against it</h2>
<p class="soft small">The first items of each benchmark that made a gate hold or block: what was asked, what was expected and what was answered. Long texts are cut
in the middle.</p>
{% for one in objections %}<details{% if loop.first %} open{% endif %}><summary><span class="verdict small {{ one.verdict }}">{{ one.gate }}</span> {{ one.said }}</summary>
{% for item in one["items"] %}<blockquote class="asked"><p class="soft small">{{ item.item }}</p>
{% if item.images %}<div class="pictures">{% for image in item.images %}<img src="{{ image }}" alt="image {{ loop.index }} of {{ item.item }}">{% endfor %}</div>{% endif %}
{% if item.question %}<p class="opening">{{ item.question }}</p>{% endif %}{% if item.target %}<p class="small"><span class="soft">expected:</span> {{ item.target }}</p>{% endif %}
{% for answer in item.answers %}<p class="small"><span class="soft">{{ answer.who }} (score {{ answer.score }}):</span> {{ answer.text or "nothing" }}</p>
{% endfor %}</blockquote>
{% endfor %}</details>
{% endfor %}</section>{% endif %}

<section><h2>What it is</h2>
<dl>{% for key, value in facts %}<dt>{{ key }}</dt><dd>{{ value }}</dd>{% endfor %}</dl></section>

<div class="grid">
{% for caption, svg, command in figures %}<figure><figcaption>{{ caption }}</figcaption>{% if svg %}{{ svg | safe }}{% else %}<p class="soft">No data.</p>{% endif %}
<p class="source"><code>{{ command }}</code></p></figure>
{% endfor %}</div>

<section><h2>Measured</h2>
<p class="soft small">Value [95% interval], n items. Intervals: Wilson for shares, bootstrap for means.</p>
<div class="scroll"><table><thead><tr><th>Metric</th>{% for model in models %}<th class="n">{{ model }}</th>{% endfor %}</tr></thead><tbody>
{% for name, cells in metrics %}<tr><td>{{ name }}</td>{% for cell in cells %}<td class="n">{{ cell[0] }}<br><span class="soft small">{{ cell[1] }}</span></td>{% endfor %}</tr>
{% endfor %}</tbody></table></div></section>

{% for heading, other, found in (("Against the production version, item by item", "production", decision.comparisons),
("What contamination gave: the base model against its twin without those documents", "twin", decision.contamination_gain),
("What it sees: against the twin that never saw an image", "twin", decision.vision),
("Against its base model, item by item (alignment tax)", "base", decision.tax),
("Conduct, item by item", "other", decision.conduct),
("The content classifier against production's, text by text", "production", decision.content_classifier)) %}{% if found %}<section><h2>{{ heading }}</h2>
<p class="soft small">Paired tests: McNemar for right and wrong, bootstrap for other scores; Holm's correction. "Detectable" is the smallest true difference
that this many items show in four cases of five.</p>
<div class="scroll"><table><thead><tr><th>Benchmark</th><th class="n">items</th><th class="n">{{ other }}</th><th class="n">this</th><th class="n">difference</th>
<th class="n">p (Holm)</th><th class="n">detectable</th><th class="n">gained / lost</th><th>Verdict</th></tr></thead><tbody>
{% for c in found %}<tr><td>{{ c.benchmark }}</td><td class="n">{{ c.n }}</td><td class="n">{{ "%.4f" | format(c.old) }}</td>
<td class="n">{{ "%.4f" | format(c.new) }}</td><td class="n">{{ "%+.4f" | format(c.difference) }}<br><span class="soft small">{{ "[%+.4f, %+.4f]" | format(c.low, c.high) }}</span></td>
<td class="n">{{ "%.4f" | format(c.p_holm) }}</td><td class="n">{{ "-" if c.detectable is none else "%.4f" | format(c.detectable) }}</td>
<td class="n">{{ c.gained | length }} / {{ c.lost | length }}</td><td>{{ c.verdict }}</td></tr>
{% endfor %}</tbody></table></div>
{% for c in found if c.lost or c.gained %}<details><summary class="small">{{ c.benchmark }}: items that changed</summary>
<p class="soft small flips">{% if c.lost %}<b>Lost</b> {{ c.lost | join(", ") }}. {% endif %}{% if c.gained %}<b>Gained</b> {{ c.gained | join(", ") }}.{% endif %}</p></details>
{% endfor %}</section>{% endif %}{% endfor %}

{% if taught %}<section><h2>What a stronger model taught it</h2>
<p class="soft small">Demonstrations that the teacher wrote: instructions like people's, and its answers to them. Left out: by reason.</p>
<dl>{% for key, value in taught.facts %}<dt>{{ key }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
{% if taught.left_out %}<div class="scroll"><table><thead><tr><th>Left out</th><th class="n">number</th></tr></thead><tbody>
{% for row in taught.left_out %}<tr><td>{{ row[0] }}</td><td class="n">{{ row[1] }}</td></tr>
{% endfor %}</tbody></table></div>{% endif %}</section>{% endif %}

{% if lost %}<section><h2>What was too long</h2>
<p class="soft small">Texts and prompts that a stage left out because they do not fit, and what it read or trained on without its end. A row teaches never
to stop where no token among what is trained on ends it; of sampled completions those that were cut and yet made likelier.</p>
<div class="scroll"><table><thead><tr><th>Stage</th><th class="n">trained on</th><th class="n">left out</th><th class="n">cut</th><th class="n">teach never to stop</th></tr></thead><tbody>
{% for row in lost %}<tr><td>{{ row[0] }}</td>{% for cell in row[1:] %}<td class="n">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div></section>{% endif %}

{% if feedback.counts %}<section><h2>Who ranked what the reward models learned from</h2>
<p class="soft small">Comparisons that people made, and rankings of the model's own answers by a judge. Pairs: without ties. Kappa: agreement of the judge
with people's labels, 0 for chance.</p>
<div class="scroll"><table><thead><tr><th>Split</th><th>Source</th><th>Ranked by</th><th class="n">comparisons</th><th class="n">pairs</th></tr></thead><tbody>
{% for row in feedback.counts %}<tr>{% for cell in row[:3] %}<td>{{ cell }}</td>{% endfor %}{% for cell in row[3:] %}<td class="n">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
<div class="scroll"><table><thead><tr><th>Reward model</th><th>Held-out comparisons by</th><th class="n">accuracy</th></tr></thead><tbody>
{% for row in feedback.accuracies %}<tr><td>{{ row[0] }}</td><td>{{ row[1] }}</td><td class="n">{{ row[2] }}</td></tr>
{% endfor %}</tbody></table></div>
<div class="scroll"><table><thead><tr><th>Rubric</th><th>Judge</th><th class="n">Kappa</th></tr></thead><tbody>
{% for row in feedback.agreement %}<tr><td>{{ row[0] }}</td><td>{{ row[1] }}</td><td class="n">{{ row[2] }}</td></tr>
{% endfor %}</tbody></table></div></section>{% endif %}

{% if feedback.graders %}<section><h2>Who graded its replies</h2>
<p class="soft small">Agreement of the judge with people on labelled responses of each rubric. Scores of benchmarks that it graded are worth no more than that.</p>
<div class="scroll"><table><thead><tr><th>Rubric</th><th>Judge</th><th class="n">Accuracy</th><th class="n">Kappa</th></tr></thead><tbody>
{% for row in feedback.graders %}<tr><td>{{ row[0] }}</td><td>{{ row[1] }}</td><td class="n">{{ row[2] }}</td><td class="n">{{ row[3] }}</td></tr>
{% endfor %}</tbody></table></div></section>{% endif %}

{% if feedback.set_aside %}<section><h2>Set aside</h2>
<p class="soft small">What the config asks for and was not done, with the reason.</p>
<div class="scroll"><table><tbody>{% for what, reason in feedback.set_aside %}<tr><td>{{ what }}</td><td>{{ reason }}</td></tr>
{% endfor %}</tbody></table></div></section>{% endif %}

{% if classifier %}<section><h2>Content classifier</h2>
<p class="soft small">It judges what the served model is asked and says. Measured on {{ classifier.origin }}, none of them trained on, at the thresholds that
serve; the baseline is TF-IDF with logistic regression on the same texts. Value [95% interval]; AUPRC: area under precision over recall.{% if classifier.learned %}
{{ classifier.learned }}.{% endif %}</p>
<div class="scroll"><table><thead><tr><th>Category</th><th class="n">positives</th><th class="n">AUPRC</th><th class="n">baseline</th><th class="n">gain</th>
<th class="n">precision</th><th class="n">recall</th><th class="n">calibration error</th></tr></thead><tbody>
{% for row in classifier.categories %}<tr><td>{{ row[0] }}</td>{% for cell in row[1:] %}<td class="n">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% if classifier.blocked %}<p class="soft small">Prompts without categories: safe ones that look unsafe, unsafe ones, and harmless sentences that name groups of
people, with the names that are blocked most often.</p>
<div class="scroll"><table><thead><tr><th>Prompts</th><th class="n">blocked</th><th class="n">by the baseline</th></tr></thead><tbody>
{% for row in classifier.blocked %}<tr><td>{{ row[0] }}</td>{% for cell in row[1:] %}<td class="n">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% endif %}</section>{% endif %}

{% if rules %}<section><h2>Rules that it was rewarded by</h2>
<p class="soft small">Rubrics that a judge applied to the prompts of some categories while the policy was trained, beside the reward model. Kappa: agreement of the judge with people's
labels, 0 for chance.</p>
<div class="scroll"><table><thead><tr><th>Rubric</th><th>Prompts</th><th>Wanted</th><th class="n">Weight</th><th class="n">Kappa</th></tr></thead><tbody>
{% for row in rules %}<tr>{% for cell in row[:3] %}<td>{{ cell }}</td>{% endfor %}{% for cell in row[3:] %}<td class="n">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div></section>{% endif %}

{% if classes[1] %}<section><h2>What it does with which prompts</h2>
<p class="soft small">Share of replies in each class of the rubric, as its judge sorts them; how far the judge agrees with people is measured on labelled responses.</p>
<div class="scroll"><table><thead><tr><th>Prompts</th><th>Model</th>{% for name in classes[0] %}<th class="n">{{ name }}</th>{% endfor %}</tr></thead><tbody>
{% for category, model, cells in classes[1] %}<tr><td>{{ category }}</td><td>{{ model }}</td>{% for cell in cells %}<td class="n">{{ cell[0] }}<br><span class="soft small">{{ cell[1] }}</span></td>{% endfor %}</tr>
{% endfor %}</tbody></table></div></section>{% endif %}

{% if judged_shares %}<section><h2>How well its replies are judged</h2>
<p class="soft small">What judges replies (a parser of phrases, or a grader), beside replies that people labelled: how many it finds, and how many it takes wrongly. Shares
are then corrected, with an interval that holds the doubt in both (Rogan and Gladen 1978; Lang and Reiczigel 2014). The gates go by the corrected ones.</p>
<div class="scroll"><table><thead><tr><th>Share</th><th class="n">found</th><th class="n">false alarms</th><th>Model</th><th class="n">as seen</th><th class="n">corrected</th></tr></thead><tbody>
{% for row in judged_shares %}<tr><td>{{ row[0] }}</td><td class="n">{{ row[1] }}</td><td class="n">{{ row[2] }}</td><td>{{ row[3] }}</td><td class="n">{{ row[4] }}</td><td class="n">{{ row[5] }}</td></tr>
{% endfor %}</tbody></table></div></section>{% endif %}

<section><h2>Sample completions</h2>
<p class="soft small">The first three prompts of the benchmark, not chosen; sampled at the temperature of the evaluation.</p>
{% for sample in samples %}<blockquote>{% for model in models %}<div><span class="soft small">{{ model }}</span>
<span class="opening">{{ sample.prompt }}</span>{{ sample[model] }}</div>{% endfor %}</blockquote>{% endfor %}</section>

{% for benchmark, pictures in seen.items() %}<section><h2>What it says of pictures: {{ benchmark }}</h2>
<p class="soft small">The first items of the benchmark, not chosen. no_vision is the twin that was trained alike with every image grey, and is shown them grey.</p>
<div class="pictures">{% for one in pictures %}<figure>{% for image in one.images %}<img src="{{ image }}" alt="{{ one.item }}">{% endfor %}
<p class="opening">{{ one.question }}</p>{% if one.choices %}<p class="soft small">among: {{ one.choices }}</p>{% endif %}
<p class="small">right: {{ one.target }}</p>{% for answer in one.answers %}<p class="small"><span class="soft">{{ answer.who }}:</span> {{ answer.text }} <b>{{ "✓" if answer.right else "✗" }}</b></p>{% endfor %}</figure>
{% endfor %}</div></section>{% endfor %}

<section><h2>Contamination</h2>
<p class="soft small">Benchmark items of which a 50-character substring stands in a training set: as written is the GPT-4 report's rule (appendix C), by content
is the same whatever the spelling, short items where chance does not explain them. Scores on all items, on clean ones and on those contaminated by content.</p>
<div class="scroll"><table><thead><tr><th>Benchmark</th><th class="n">items</th><th class="n">as written</th><th class="n">by content</th><th class="n">score, all</th>
<th class="n">clean</th><th class="n">contaminated</th></tr></thead><tbody>
{% for row in contamination %}<tr><td>{{ row[0] }}</td>{% for cell in row[1:] %}<td class="n">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div></section>

<section><h2>Data</h2>
<div class="scroll"><table><thead><tr><th>Source</th><th>Package</th><th>Licence</th><th>sha256</th></tr></thead><tbody>
{% for source in sources %}<tr><td>{{ source.name }}</td><td>{{ source.package }} {{ source.version }}</td><td>{{ source.licence }}</td>
<td><code>{{ (source.sha256 or "")[:16] }}</code></td></tr>
{% endfor %}</tbody></table></div></section>

<section><h2>Limits</h2>
{% for said in limits %}<p>{{ said }}</p>
{% endfor %}</section>

<section><h2>Load it</h2>
{% set alias = {"PROMOTE": "production", "HOLD": "candidate"}.get(decision.verdict) %}{% if alias %}
<pre>import mlflow

chat = mlflow.pyfunc.load_model({{ ("models:/" ~ name ~ "@" ~ alias) | tojson }})  # every file is checked against its hash
print(chat.predict([{"messages": [{"role": "user", "content": "Good morning, how are you?"}]}], params={"temperature": 1.0}))</pre>
<p>Or the same weights in transformers:</p>
{% if seen %}<pre>import mlflow
from transformers import AutoModelForImageTextToText, AutoProcessor

path = mlflow.artifacts.download_artifacts({{ ("models:/" ~ name ~ "@" ~ alias) | tojson }}) + "/artifacts/model"
processor, model = AutoProcessor.from_pretrained(path), AutoModelForImageTextToText.from_pretrained(path)
asked = [{"type": "image", "path": "picture.png"}, {"type": "text", "text": {{ ("\n" ~ (seen.values() | first | first).question) | tojson }}}]
inputs = processor.apply_chat_template([{"role": "user", "content": asked}], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
print(processor.decode(model.generate(**inputs, max_new_tokens=24)[0], skip_special_tokens=True))</pre>
{% else %}<pre>import mlflow
from transformers import AutoModelForCausalLM, AutoTokenizer

path = mlflow.artifacts.download_artifacts({{ ("models:/" ~ name ~ "@" ~ alias) | tojson }}) + "/artifacts/model"
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path)
inputs = tokenizer({{ ("<|endoftext|>" ~ (samples[0].prompt if samples else "The")) | tojson }}, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=24, do_sample=True)[0]))</pre>{% endif %}
{% else %}<p>What is blocked is registered under no alias.</p>{% endif %}</section>
</main>{{ sorting }}</body></html>
"""
