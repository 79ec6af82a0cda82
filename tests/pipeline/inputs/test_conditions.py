"""Prompts and labels through the pipeline: from files, columns and a captioner, into streams, columns and bits."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import psc_core
from pipeline.codec import Codec
from pipeline.dataset.reader import Dataset
from pipeline.errors import BadRequest, PlanDiffers
from pipeline.extend import extend
from pipeline.inputs import captioner
from pipeline.inputs.conditions import conditioned
from pipeline.rates import truncate
from pipeline.request import Request
from pipeline.restore import decompress
from pipeline.run import compress
from pipeline.sources import Source
from psc_core.coding.condition import condition_bits
from tests.pipeline.build import plan_dataset, run_shards
from tests.psc_core.test_conditions import GreyGaussian

CAPTIONS = {"a.png": "A dog on a beach.", "b.png": "zwei Öfen", "sub/c.png": "a cat"}
FIELDS = {"tiers": 2, "window": 8, "restore_samples": 2, "restore_steps": 1}


@dataclass(frozen=True)
class Conditional(Codec):
    """The real codec on a closed-form prior that takes prompts, or labels."""

    kind: str | None = "text"

    def load(self, request, threads=None):
        return GreyGaussian(self.kind)


def asked(**options) -> Request:
    return Request(profile="archive", prior="gaussian", overrides=FIELDS, **options)


@pytest.fixture
def images(tmp_path):
    """Four images, the last without a caption."""
    rng = np.random.default_rng(0)
    for name in (*CAPTIONS, "d.png"):
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).save(path)
    return tmp_path / "src"


def rows_of(folder) -> list[dict]:
    return Dataset.open(str(folder)).arrow().to_table().to_pylist()


def made(images, target, request, codec=None):
    plan, encoder = plan_dataset(images, target, request, codec or Conditional())
    encoder.describe()
    run_shards(plan, encoder, target)
    return rows_of(target)


def written(folder, suffix):
    """The captions as a file of that kind."""
    path = folder / f"captions{suffix}"
    if suffix == ".csv":
        path.write_text("file_name,caption\n" + "".join(f'{k},"{v}"\n' for k, v in CAPTIONS.items()))
    elif suffix == ".tsv":
        path.write_text("id\ttext\n" + "".join(f"{k}\t{v}\n" for k, v in CAPTIONS.items()))
    elif suffix == ".parquet":
        pq.write_table(pa.table({"image_id": list(CAPTIONS), "caption": list(CAPTIONS.values())}), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"image": k, "prompt": v}) for k, v in CAPTIONS.items()))
    else:
        path.write_text(json.dumps([{"file": k, "captions": [v, "another"]} for k, v in CAPTIONS.items()]))
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
def test_files_of_captions(images, tmp_path, suffix):
    items = conditioned(Source(str(images)), captions=str(written(tmp_path, suffix)))
    found = {item.id: item.condition for item in items}
    assert found == CAPTIONS | {"d.png": None}


def test_names_that_look_like_numbers_are_names(images, tmp_path):
    (images / "a.png").rename(images / "000285")
    (tmp_path / "labels.csv").write_text("id,label\n000285,07\n")
    items = conditioned(Source(str(images)), labels=str(tmp_path / "labels.csv"))
    found = {item.id: item.condition for item in items}
    assert found["000285"] == 7


def test_prompts_are_in_the_streams_the_columns_and_the_rate(images, tmp_path):
    rows = made(images, tmp_path / "ds", asked(captions=str(written(tmp_path, ".json"))))
    bare = made(images, tmp_path / "bare", asked())
    for row, without in zip(rows, bare, strict=True):
        prompt = CAPTIONS.get(row["image_id"])
        assert row["status"] == "ok"
        assert row["prompt"] == prompt
        assert row["label"] is None
        header = psc_core.coding.header.ImageHeader.from_bytes(row["image_header"])
        assert header.condition == prompt
        assert row["bpp"] == 8 * row["bytes"] / (row["width"] * row["height"])
        tiers = sum(len(row[f"tier_{k}"]) for k in range(2))
        assert row["bytes"] == len(row["image_header"]) + tiers, "the text is counted"
        assert 8 * (len(row["image_header"]) - len(without["image_header"])) == condition_bits(prompt)
        assert row["condition_bits"] == (None if prompt is None else condition_bits(prompt))
        assert row["condition_origin"] == (None if prompt is None else "captions.json:captions")
        assert (row["tier_1"] == without["tier_1"]) == (prompt is None), "the prompt decides the bytes"


def test_a_life_with_captions(ray_session, images, tmp_path):
    """Compressed by workers, cut, extended with the prompts that its rows hold, decoded; not resumed with others."""
    file, request = written(tmp_path, ".json"), asked(captions=str(written(tmp_path, ".json")))
    compress(str(images), str(tmp_path / "ds"), request, workers=1, codec=Conditional())
    rows = rows_of(tmp_path / "ds")
    assert [row["prompt"] for row in rows] == ["A dog on a beach.", "zwei Öfen", None, "a cat"]
    truncate(str(tmp_path / "ds"), str(tmp_path / "cut"), tier=0)
    assert [row["prompt"] for row in rows_of(tmp_path / "cut")] == [row["prompt"] for row in rows]
    file.write_text(json.dumps(dict.fromkeys(CAPTIONS, "something else")))
    extend(str(tmp_path / "cut"), str(tmp_path / "fine"), source=str(images), tier=1, workers=1, codec=Conditional())
    again = rows_of(tmp_path / "fine")
    assert [row["tier_1"] for row in again] == [row["tier_1"] for row in rows]
    assert [row["condition_origin"] for row in again] == [row["condition_origin"] for row in rows]
    result = decompress(str(tmp_path / "fine"), str(tmp_path / "pictures"), codec=Conditional())
    assert (result.written, result.failures) == (4, 0)
    with pytest.raises(PlanDiffers, match="captions"):
        compress(str(images), str(tmp_path / "ds"), request, workers=1, codec=Conditional(), resume=True)


def test_labels(images, tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps({"a.png": 3, "b.png": "207", "c.png": [9]}))
    rows = made(images, tmp_path / "ds", asked(labels=str(tmp_path / "labels.json")), Conditional("label"))
    assert [row["label"] for row in rows] == [3, 207, None, 9], "an id may be the last part of the image's"
    assert [row["condition_bits"] for row in rows] == [8, 16, None, 8]


def test_an_image_without_a_label_fails_alone(images, tmp_path):
    from tests.psc_core.priors.test_discrete import folder_of
    from tests.psc_core.priors.test_labels import tiny_labelled

    folder_of(tmp_path / "prior", unet=tiny_labelled())
    (tmp_path / "labels.json").write_text(json.dumps({"a.png": 3, "b.png": 10, "sub/c.png": 9}))
    request = Request(
        profile="archive", prior=str(tmp_path / "prior"), overrides=FIELDS, labels=str(tmp_path / "labels.json")
    )
    rows = {row["image_id"]: row for row in made(images, tmp_path / "ds", request, Codec())}
    assert [rows[name]["status"] for name in rows] == ["ok", "invalid_condition", "invalid_condition", "ok"]
    assert "class label 10" in rows["b.png"]["error"]
    assert "--labels" in rows["d.png"]["error"]
    assert rows["b.png"]["label"] == 10


def test_a_column_of_parquet(images, tmp_path):
    names = sorted(CAPTIONS)
    table = {"image": [(images / n).read_bytes() for n in names], "say": [CAPTIONS[n] for n in names]}
    pq.write_table(pa.table(table), tmp_path / "photos.parquet", row_group_size=2)
    rows = made(tmp_path / "photos.parquet", tmp_path / "ds", asked(captions="say"))
    assert [row["prompt"] for row in rows] == table["say"]
    assert rows[0]["condition_origin"] == "column say"


def test_webdataset_and_files_beside_images(images, tmp_path):
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, text in CAPTIONS.items():
            for member, data in ((name, (images / name).read_bytes()), (name[:-3] + "txt", text.encode())):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            (images / name).with_suffix(".txt").write_text(text)
    for source in (tmp_path / "shard.tar", images):
        items = conditioned(Source(str(source)), captions="txt")
        found = {item.id.removeprefix("shard.tar/"): item.condition for item in items}
        assert {k: v for k, v in found.items() if v} == CAPTIONS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"picture": "a.png", "caption": "x"}]', "called image_id, id"),
        ('[{"id": "a.png", "says": "x"}]', "called caption"),
        ('{"x.png": "y"}', r"about none of the images; it names 'x.png'.*'sub/c.png'"),
        ("{", "cannot be read"),
        ('{"a.png": "%s"}' % ("x" * 20_000), r"a\.png has 'x+.*at most"),
    ],
)
def test_files_that_say_nothing_are_refused(images, tmp_path, content, words):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(BadRequest, match=words):
        list(conditioned(Source(str(images)), captions=str(tmp_path / "bad.json")))


def test_wrong_use_is_refused(images, tmp_path):
    file = str(written(tmp_path, ".json"))
    for request, words in [
        (asked(captions="nowhere.json"), "no such file"),
        (asked(captions="txt"), "no image has one"),
        (asked(labels=file), "called label, class"),
    ]:
        with pytest.raises(BadRequest, match=words):
            list(conditioned(Source(str(images)), request.captions, request.labels))
    with pytest.raises(BadRequest, match="prompts"):
        asked(captions=file, labels=file).check()
    for request, kind, words in [
        (asked(captions=file), None, "--captions: prior 'gaussian' takes neither"),
        (asked(labels=file), "text", "--labels: prior 'gaussian' takes text prompts"),
        (asked(captioner="m"), "label", "--captioner: prior 'gaussian' takes class labels"),
    ]:
        with pytest.raises(BadRequest, match=words):
            Conditional(kind).shared(request, GreyGaussian(kind))


def test_datasets_without_conditions_have_no_columns_for_them(images, tmp_path):
    rows = made(images, tmp_path / "ds", asked(), Conditional(None))
    assert not {"prompt", "label", "condition_bits"} & set(rows[0])
    assert not {"captions", "labels", "captioner"} & set(asked().params())


def tiny_captioner(folder):
    """A BLIP-2 of random weights with its real processor and tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        BlipImageProcessor,
        OPTConfig,
        PreTrainedTokenizerFast,
    )

    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", *"abcdefghijk"]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Blip2Config(
        vision_config=Blip2VisionConfig(**size, image_size=16, patch_size=8).to_dict(),
        qformer_config=Blip2QFormerConfig(**size, encoder_hidden_size=16, vocab_size=len(words)).to_dict(),
        text_config=OPTConfig(
            vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16,
            word_embed_proj_dim=16, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        ).to_dict(),
        num_query_tokens=2, image_token_index=4,
    )  # fmt: skip
    import torch

    torch.manual_seed(1)
    model = Blip2ForConditionalGeneration(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.6)
    model.save_pretrained(folder)
    Blip2Processor(BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer, num_query_tokens=2).save_pretrained(
        folder
    )


def test_a_captioner_prompts_what_has_no_prompt(images, tmp_path):
    pytest.importorskip("transformers")
    tiny_captioner(tmp_path / "blip2")
    model = str(tmp_path / "blip2")
    request = asked(captioner=model, captions=str(written(tmp_path, ".json")))
    rows = {row["image_id"]: row for row in made(images, tmp_path / "ds", request)}
    assert rows["a.png"]["prompt"] == CAPTIONS["a.png"]
    said = captioner.Captioner(model).caption(np.asarray(Image.open(images / "d.png")))
    assert said
    assert rows["d.png"]["prompt"] == said
    assert rows["d.png"]["condition_origin"] == f"captioner {model}"
    assert rows["d.png"]["condition_bits"] == condition_bits(said)
    alone = made(images, tmp_path / "alone", asked(captioner=model))
    assert len({row["prompt"] for row in alone}) > 1, "it looks at the image"
    assert alone[2]["prompt"] == said


def test_a_missing_captioner_is_named(monkeypatch, tmp_path):
    with pytest.raises(BadRequest, match="cannot load a captioning model"):
        captioner.Captioner(str(tmp_path))
    monkeypatch.setattr(captioner, "find_spec", lambda name: None)
    with pytest.raises(BadRequest, match="needs the package transformers"):
        captioner.Captioner("owner/blip2")
