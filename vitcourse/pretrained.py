"""Public Vision Transformers as ours; without network or library, a checkpoint of the course."""

from __future__ import annotations

from vitcourse import checkpoints, interop
from vitcourse.model import VisionTransformer

# Whose errors mean that nothing could be fetched. (A name that doesn't exist is an error of theirs, too: the sentence
# gives their reason.)
_OF_THE_NETWORK = ("huggingface_hub", "httpx", "httpcore", "requests", "urllib3")


def load(name: str, *, online: bool = True, otherwise: str = "poses-82") -> tuple[VisionTransformer, str]:
    """A model of timm's or Hugging Face's with its trained weights, in evaluation mode, and a sentence on what it is.

    Args:
        name: "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", or a model on the Hugging Face hub with a
            classification head, "google/vit-base-patch16-224".
        online: may the network be used; hundreds of megabytes may come.
        otherwise: the course's checkpoint that is taken when it may not, when nothing answers, or when the library
            isn't installed. The sentence says which and why.

    Raises:
        ValueError: a model that ours can't represent, one without trained weights for each part (without a
            classification head, for example), or a checkpoint that there isn't.
    """
    if not online:
        return _instead(otherwise, "online is False")
    try:
        return _fetch(name).eval(), f"{name} was fetched."
    except ImportError as error:
        return _instead(otherwise, f"{error.name or name.partition('/')[0]} is not installed")
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _OF_THE_NETWORK:
            raise
        reason = (str(error).strip().splitlines() or ["without a reason"])[0].rstrip(".")
        return _instead(otherwise, f"{name} could not be fetched ({type(error).__name__}: {reason})")


def _fetch(name: str) -> VisionTransformer:
    library, _, rest = name.partition("/")
    if library == "timm":
        import timm

        return interop.from_timm(timm.create_model(rest, pretrained=True))
    import transformers

    theirs, found = transformers.ViTForImageClassification.from_pretrained(name, output_loading_info=True)
    if found["missing_keys"]:  # transformers draws them at random, and only logs it
        raise ValueError(
            f"name {name!r} has no weights for {', '.join(sorted(found['missing_keys']))}: choose a checkpoint with a "
            "classification head."
        )
    return interop.from_huggingface(theirs)


def _instead(checkpoint: str, why: str) -> tuple[VisionTransformer, str]:
    return checkpoints.load(checkpoint), f"The course's checkpoint {checkpoint}, because {why}."
