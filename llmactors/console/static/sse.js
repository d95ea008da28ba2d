// Reads server-sent events from the body of an answer: {id, event, data}.

export async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    try {
        for (;;) {
            const {done, value} = await reader.read();
            if (done) return;
            text += value.replaceAll("\r\n", "\n");
            let end;
            while ((end = text.indexOf("\n\n")) >= 0) {
                const found = parsed(text.slice(0, end));
                text = text.slice(end + 2);
                if (found !== null) yield found;
            }
        }
    } finally {
        reader.cancel().catch(() => null);
    }
}

function parsed(block) {
    const found = {id: null, event: "message", data: []};
    for (const line of block.split("\n")) {
        const at = line.indexOf(":");
        if (at === 0) continue;
        const name = at < 0 ? line : line.slice(0, at);
        const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
        if (name === "data") found.data.push(value);
        else if (name === "id") found.id = value;
        else if (name === "event") found.event = value;
    }
    return found.data.length ? {...found, data: found.data.join("\n")} : null;
}
