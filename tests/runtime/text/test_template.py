"""Chat templates: what they may use, and what a client is told when they refuse."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from dyno_runtime.text.template import PLAIN, BadTemplate, ChatTemplates, TemplateRefused

NOW = datetime(2031, 2, 3, 4, 5)
USER: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


def render(source: str, messages: list[dict[str, Any]] = USER, **more: Any) -> str:
    return ChatTemplates({"default": source}, {"bos_token": "<s>"}, lambda: NOW).render(messages, **more)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{{ messages[0].content }}", "<s>hi"),
        ("{{ strftime_now('%d %b %Y') }}", "03 Feb 2031"),
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
        ("{{ {'a': [1]} | tojson(indent=1) }}", '{\n "a": [\n  1\n ]\n}'),
        ("{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}"
         "{% endfor %}", "013"),
        ("a{% generation %}{{ messages[0].role }}{% endgeneration %}b", "auserb"),
        ("{% if add_generation_prompt %}go{% endif %}{{ tools is none }}{{ documents }}", "goTrueNone"),
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
        ("{{ unknown }}{{ messages[0].nothing }}.", "."),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "1"),
    ],
)  # fmt: skip
def test_what_templates_use(source, text):
    assert render(source) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{{ raise_exception('Roles must alternate!') }}",
            "the model's chat template refuses these messages: Roles must alternate!",
        ),
        (
            "{{ messages[3].content }}",
            "the model's chat template refuses these messages: list object has no element 3",
        ),
        (
            "{{ messages[0].content + 1 }}",
            "the model's chat template fails on these messages: "
            'TypeError: can only concatenate str (not "int") to str',
        ),
        (
            "{{ messages.append(1) }}",
            "the model's chat template refuses these messages: "
            "access to attribute 'append' of 'list' object is unsafe.",
        ),
        (
            "{{ ''.__class__.__mro__ }}",
            "the model's chat template refuses these messages: "
            "access to attribute '__class__' of 'str' object is unsafe.",
        ),
        (
            "{% for i in range(999999) %}{% endfor %}",
            "the model's chat template fails on these messages: OverflowError: Range too big. The sandbox blocks "
            "ranges larger than MAX_RANGE (100000).",
        ),
    ],
)  # fmt: skip
def test_refusals(source, message):
    with pytest.raises(TemplateRefused) as caught:
        render(source)
    assert str(caught.value) == message


def test_a_broken_template_is_found_at_load():
    with pytest.raises(BadTemplate) as caught:
        ChatTemplates({"default": "{% if %}"}, {}, lambda: NOW)
    expected = (
        "the chat template 'default' cannot be compiled: Expected an expression, got 'end of statement block'"
    )
    assert str(caught.value) == expected


def test_templates_by_name():
    both = ChatTemplates({"default": "plain", "tool_use": "with {{ tools[0].x }}"}, {}, lambda: NOW)
    assert both.render(USER) == "plain"
    assert both.render(USER, tools=[{"x": 1}]) == "with 1"
    assert both.render(USER, tools=[{"x": 1}], name="default") == "plain"
    with pytest.raises(
        TemplateRefused, match=r"^this model has no chat template 'rag'; it has default, tool_use$"
    ):
        both.render(USER, name="rag")
    nothing = ChatTemplates({}, {}, lambda: NOW)
    with pytest.raises(
        TemplateRefused, match=r"^this model has no chat template; it takes /v1/completions only$"
    ):
        nothing.render(USER)


def test_the_clients_own_variables_and_those_that_are_ours():
    assert render("{{ mode }}{{ bos_token }}", more={"mode": "m", "bos_token": "<b>"}) == "m<b>"
    assert render("{{ messages[0].content }}", more={"messages": [], "tools": 1}) == "hi"


def test_content_for_templates_that_know_only_parts():
    loops = "{% for p in messages[0]['content'] %}[{{ p['type'] }}:{{ p['text'] }}]{% endfor %}"
    dotted = "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}"
    both = "{% if m is string %}{% endif %}{% for p in messages[0].content %}{{ p }}-{% endfor %}"
    assert render(loops) == "[text:hi]"
    assert render(dotted) == "[hi]"
    assert render(both) == "h-i-"


def test_the_last_message_can_be_continued():
    messages = [*USER, {"role": "assistant", "content": "Well, "}]
    assert render(PLAIN, messages) == "user: hi\nassistant: Well, \nassistant: "
    assert render(PLAIN, messages, continue_final_message=True) == "user: hi\nassistant: Well,"
    parts = "{% for m in messages %}{% for p in m.content %}{{ p.text }}|{% endfor %}{% endfor %}"
    assert render(parts, messages, continue_final_message=True) == "hi|Well,"
    message = "^the last message cannot be continued: the prompt does not hold it as it is$"
    for source, said in (("{{ messages[-1].content | upper }}", "x"), (PLAIN, "")):
        with pytest.raises(TemplateRefused, match=message):
            render(source, [{"role": "assistant", "content": said}], continue_final_message=True)


def test_developers_are_system_where_the_template_does_not_know_them():
    messages = [{"role": "developer", "content": "x"}]
    assert render("{{ messages[0].role }}", messages) == "system"
    assert render("{# developer #}{{ messages[0].role }}", messages) == "developer"
