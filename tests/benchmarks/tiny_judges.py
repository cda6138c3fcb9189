"""Folders of the models that judge images, with random weights: transformers' own classes, shrunk."""

import string

import torch

from amdm.shapes.imports import import_beside_torchvision

transformers = import_beside_torchvision("transformers")


def saved(folder, model, processor):
    """Save a model and its processor as those on the hub are."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def grounding_dino(folder):
    """GroundingDINO of 60 thousand parameters, with a word piece for each letter."""
    torch.manual_seed(0)
    backbone = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *string.ascii_lowercase]
    pieces += [f"##{letter}" for letter in string.ascii_lowercase]
    words = transformers.BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone, text_config=words, d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
        num_queries=20, max_text_len=32,
    )  # fmt: skip
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(pieces))
    processor = transformers.GroundingDinoProcessor(
        transformers.GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 160}),
        transformers.BertTokenizer.from_pretrained(folder),
    )
    return saved(folder, transformers.GroundingDinoForObjectDetection(config), processor)


def sam(folder):
    """Segment Anything of 40 thousand parameters, which sees 64 x 64 pixels."""
    torch.manual_seed(0)
    size, patch, width = 64, 16, 16
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": size,
            "patch_size": patch, "mlp_dim": 16, "output_channels": width, "window_size": 2,
            "global_attn_indexes": [1], "num_pos_feats": width // 2, "initializer_range": 0.02,
        },
        prompt_encoder_config={
            "hidden_size": width, "image_size": size, "patch_size": patch,
            "image_embedding_size": size // patch, "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": width, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_hidden_dim": 16, "iou_head_depth": 2,
        },
    )  # fmt: skip
    images = transformers.SamImageProcessor(
        size={"longest_edge": size}, pad_size={"height": size, "width": size}
    )
    return saved(folder, transformers.SamModel(config), transformers.SamProcessor(images))


def clip(folder, length=77):
    """CLIP of 30 thousand parameters, which sees 32 x 32 pixels."""
    torch.manual_seed(0)
    letters = [*string.ascii_lowercase, *(f"{c}</w>" for c in [*string.ascii_lowercase, ".", ","])]
    pieces = [*letters, "<|startoftext|>", "<|endoftext|>"]
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1}
    config = transformers.CLIPConfig(
        text_config={"vocab_size": len(pieces), "max_position_embeddings": length, **shared, **ends},
        vision_config={"image_size": 32, "patch_size": 8, **shared},
        projection_dim=16,
    )
    processor = transformers.CLIPProcessor(
        transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        transformers.CLIPTokenizer(
            vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=length
        ),
    )
    return saved(folder, transformers.CLIPModel(config), processor)


def inception(file):
    """Torch-fidelity's Inception with random weights, in half precision: 48 MB."""
    module = import_beside_torchvision("torch_fidelity.feature_extractor_inceptionv3")

    class Unread(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, weights):
            pass

    torch.save({}, file)
    with torch.device("meta"):
        empty = Unread("shapes", ["2048"], feature_extractor_weights_path=str(file))
    torch.manual_seed(0)
    torch.save({name: weights(name, value.shape) for name, value in empty.state_dict().items()}, file)
    return file


def weights(name, shape):
    """Weights that keep the variance, and normalisations that change nothing."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if len(shape) > 1:
        return (torch.randn(shape) * (2 / shape[1:].numel()) ** 0.5).half()
    return torch.full(shape, float(name.endswith(("bn.weight", "running_var"))), dtype=torch.float16)
