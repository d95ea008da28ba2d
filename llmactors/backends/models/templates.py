"""Chat templates of our own, in Jinja, for models whose files have a template without tools."""

CHATML_WITH_TOOLS = r"""
{%- if messages[0]['role'] == 'system' -%}
    {%- set instructions = messages[0]['content'] -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set instructions = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face' -%}
    {%- set turns = messages -%}
{%- endif -%}
{{- '<|im_start|>system\n' + instructions -}}
{%- if tools -%}
    {{- '\n\nYou may call functions. These are the functions, each as a line of JSON:\n<tools>\n' -}}
    {%- for tool in tools -%}
        {{- (tool | tojson) + '\n' -}}
    {%- endfor -%}
    {{- '</tools>\n\nA call is a line of JSON with the name of a function and its arguments, between two tags:\n' -}}
    {{- '<tool_call>\n{"name": NAME, "arguments": ARGUMENTS}\n</tool_call>' -}}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- for message in turns -%}
    {%- if message['role'] == 'tool' -%}
        {%- if loop.first or turns[loop.index0 - 1]['role'] != 'tool' -%}
            {{- '<|im_start|>user\n' -}}
        {%- endif -%}
        {{- '<tool_response>\n' + message['content'] + '\n</tool_response>' -}}
        {%- if loop.last or turns[loop.index0 + 1]['role'] != 'tool' -%}
            {{- '<|im_end|>\n' -}}
        {%- else -%}
            {{- '\n' -}}
        {%- endif -%}
    {%- else -%}
        {{- '<|im_start|>' + message['role'] + '\n' + (message['content'] or '') -}}
        {%- if message['tool_calls'] -%}
            {%- for call in message['tool_calls'] -%}
                {%- if message['content'] or not loop.first -%}
                    {{- '\n' -}}
                {%- endif -%}
                {{- '<tool_call>\n{"name": ' + (call['function']['name'] | tojson) + ', "arguments": ' -}}
                {%- if call['function']['arguments'] is string -%}
                    {{- call['function']['arguments'] -}}
                {%- else -%}
                    {{- call['function']['arguments'] | tojson -}}
                {%- endif -%}
                {{- '}\n</tool_call>' -}}
            {%- endfor -%}
        {%- endif -%}
        {{- '<|im_end|>\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
"""
"""SmolLM2's template, with tools in the way of Hermes.

A conversation without tools is rendered as SmolLM2's own template renders it.
"""
