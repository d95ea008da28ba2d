// Who looks at the console, and what this node shows: the answer of GET /v1/operator/session.

import {get, post, remove, Refused} from "./api.js";

const PATH = "/v1/operator/session";

// {operator, keys, drills, node, version, readOnly}. A worker has no sessions: its port only shows things.
export async function askSession() {
    try {
        return {readOnly: false, ...await get(PATH)};
    } catch (error) {
        if (!(error instanceof Refused && error.status === 404)) throw error;
        return {operator: true, keys: false, drills: false, node: "", version: "", readOnly: true};
    }
}

export const signIn = key => post(PATH, {key});
export const signOut = () => remove(PATH);
