// The same request as code that a person can copy.

// A command for curl. Without keys no header is needed.
export function curl(origin, path, body, withKey) {
    const quoted = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
    const key = withKey ? " \\\n  -H \"Authorization: Bearer $LLMACTORS_KEY\"" : "";
    return `curl -N ${origin}${path}${key} \\\n  -d '${quoted}'`;
}

// The command that follows a native stream from its last event on.
export function curlFollow(origin, id, last, withKey) {
    const key = withKey ? " \\\n  -H \"Authorization: Bearer $LLMACTORS_KEY\"" : "";
    return `curl -N ${origin}/v1/streams/${id ?? "ID"}${key} \\\n  -H 'Last-Event-ID: ${last}'`;
}

// A program for OpenAI's Python client.
export function openai(origin, body, withKey) {
    const {stream, stream_options: options, ...asked} = body;
    const lines = Object.entries({...asked, stream, stream_options: options})
        .map(([name, value]) => `    ${name}=${python(value, 1)},`);
    const key = withKey ? "os.environ[\"LLMACTORS_KEY\"]" : "\"none\"";
    return [
        ...(withKey ? ["import os", ""] : []),
        "from openai import OpenAI",
        "",
        `client = OpenAI(base_url="${origin}/v1", api_key=${key})`,
        "for chunk in client.chat.completions.create(",
        ...lines,
        "):",
        "    for choice in chunk.choices:",
        "        print(choice.delta.content or \"\", end=\"\", flush=True)",
    ].join("\n");
}

// A value as Python writes it.
export function python(value, depth = 0) {
    const inner = "    ".repeat(depth + 1), outer = "    ".repeat(depth);
    if (value === null || value === undefined) return "None";
    if (value === true) return "True";
    if (value === false) return "False";
    if (Array.isArray(value)) {
        if (!value.length) return "[]";
        return `[\n${value.map(each => `${inner}${python(each, depth + 1)},`).join("\n")}\n${outer}]`;
    }
    if (typeof value === "object") {
        const entries = Object.entries(value);
        if (!entries.length) return "{}";
        const simple = entries.every(([, each]) => each === null || typeof each !== "object");
        const told = entries.map(([name, each]) => `${JSON.stringify(name)}: ${python(each, depth + 1)}`);
        return simple ? `{${told.join(", ")}}` : `{\n${told.map(each => `${inner}${each},`).join("\n")}\n${outer}}`;
    }
    return JSON.stringify(value);
}
