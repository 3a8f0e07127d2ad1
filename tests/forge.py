"""Alters a checkpoint and signs it again, as a forger or another program would."""

import hashlib
import json

import safetensors.torch


def forge(path, tensors=None, meta=None, environment=None):
    """Puts tensors and metadata into the checkpoint ``path``; None takes one away."""
    file = path.with_name(f"{path.name}.json")
    body = json.loads(file.read_text())
    body.pop("digest")
    old = path.parent / body["tensors"]
    content = safetensors.torch.load(old.read_bytes())
    payload = safetensors.torch.save(_changed(content, tensors or {}))
    body["meta"] = _changed(body["meta"], meta or {})
    if environment:
        body["meta"]["environment"] |= environment
    body["sha256"] = hashlib.sha256(payload).hexdigest()
    body["tensors"] = f"{path.name}-{body['sha256'][:16]}.safetensors"
    (path.parent / body["tensors"]).write_bytes(payload)
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps({**body, "digest": digest}))


def _changed(values, changes):
    return {name: value for name, value in {**values, **changes}.items() if value is not None}
