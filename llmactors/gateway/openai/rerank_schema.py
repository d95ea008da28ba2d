"""The body that clients send to `/v1/rerank`: that of Jina and Cohere, which vLLM and llama.cpp's server take too."""

from typing import Annotated, Any

import attrs
import msgspec

from llmactors.gateway.body import NonEmpty
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.fields import read_fields
from llmactors.gateway.openai.inputs_body import MAX_INPUTS, InputsBody
from llmactors.gateway.openai.unserved import ONLY_NULL, Unserved

_UNSERVED: Unserved = {"max_chunks_per_doc": ONLY_NULL, "max_tokens_per_doc": ONLY_NULL, "rank_fields": ONLY_NULL}
"""The fields of Cohere's API that are not served."""
_TOGETHER = 16
"""How many documents each request but the last has at least. Upstreams are asked once for each request, and some count
their calls."""
_DOCUMENTS = "`documents` must be a list of texts, or of objects with a `text`"


@attrs.frozen(kw_only=True)
class RerankBody:
    """The body of `POST /v1/rerank`."""

    model: NonEmpty
    query: NonEmpty
    documents: list[Any]
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool | None = None

    @property
    def texts(self) -> list[str]:
        """The texts of the documents. Raises `InvalidParameter`."""
        if not self.documents:
            raise InvalidParameter("documents", "`documents` is empty")
        if len(self.documents) > MAX_INPUTS:
            text = f"`documents` has {len(self.documents)} items; at most {MAX_INPUTS} are accepted"
            raise InvalidParameter("documents", text)
        found: list[str] = []
        for place, each in enumerate(self.documents):
            document = each.get("text") if isinstance(each, dict) else each
            if not isinstance(document, str):
                raise InvalidParameter("documents", _DOCUMENTS)
            if not document:
                raise InvalidParameter("documents", f"`documents[{place}]` is empty")
            found.append(document)
        return found

    def requests(self, deadline_ms: int | None) -> list[InputsBody]:
        """The requests of the call, in the order of the documents. Raises `InvalidParameter` for wrong documents."""
        whole = InputsBody(model=self.model, inputs=tuple(self.texts), query=self.query, deadline_ms=deadline_ms)
        return whole.split(_TOGETHER)


def read_rerank(fields: dict[str, Any]) -> RerankBody:
    """The body of a call. Raises `InvalidParameter`, which names the field."""
    return read_fields(fields, RerankBody, _UNSERVED)
