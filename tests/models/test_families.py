"""Every family of timm's networks that has one below 30 million parameters trains a step, frozen as far as may be.

A family is a module of timm; its smallest network stands for it, with random weights and as few pixels as it takes.
"""

import copy

import pytest
import torch
from timm.models import list_modules
from torch.nn import functional

from flowers.models.backbones import Backbone
from flowers.models.nets import layer_groups
from flowers.training.feature_bank import apply_part, frozen_border
from flowers.training.stages import optimizer_groups, set_trainable, trained_groups

FAMILIES = {
    "byoanet": ("botnet26t_256", 128),
    "byobnet": ("test_byobnet", 64),
    "cait": ("cait_xxs24_224", 64),
    "coat": ("coat_tiny", 64),
    "convit": ("convit_tiny", 64),
    "convmixer": ("convmixer_768_32", 64),
    "convnext": ("test_convnext", 64),
    "cpubone": ("cpubone_nano", 64),
    "crossvit": ("crossvit_tiny_240", 240),
    "csatv2": ("csatv2", 64),
    "cspnet": ("cs3darknet_focus_s", 64),
    "cspnext": ("cspnext_tiny", 64),
    "davit": ("davit_tiny", 64),
    "deit": ("deit_tiny_patch16_224", 64),
    "densenet": ("densenet121", 64),
    "dla": ("dla46x_c", 64),
    "dpn": ("dpn48b", 64),
    "edgenext": ("edgenext_xx_small", 64),
    "efficientformer": ("efficientformer_l1", 224),
    "efficientformer_v2": ("efficientformerv2_s0", 64),
    "efficientnet": ("test_efficientnet", 64),
    "efficientvim": ("efficientvim_m1", 64),
    "efficientvit_mit": ("efficientvit_b0", 64),
    "efficientvit_msra": ("efficientvit_m0", 64),
    "eva": ("vit_tiny_patch16_dinov3_qkvb", 64),
    "fasternet": ("fasternet_t0", 64),
    "fastvit": ("fastvit_t8", 64),
    "focalnet": ("focalnet_tiny_srf", 64),
    "gcvit": ("gcvit_xxtiny", 64),
    "ghostnet": ("ghostnet_050", 64),
    "hardcorenas": ("hardcorenas_b", 64),
    "hgnet": ("hgnetv2_b0", 64),
    "hiera": ("hiera_tiny_224", 64),
    "hieradet_sam2": ("sam2_hiera_tiny", 64),
    "hrnet": ("hrnet_w18_small", 64),
    "iformer": ("iformer_t", 64),
    "inception_next": ("inception_next_atto", 64),
    "inception_v3": ("inception_v3", 96),
    "lcnetv2": ("lcnetv2_small", 64),
    "levit": ("levit_128s", 64),
    "lowformer": ("lowformer_b0", 64),
    "mambaout": ("test_mambaout", 64),
    "maxxvit": ("test_coatnet", 64),
    "metaformer": ("poolformerv2_s12", 64),
    "mlp_mixer": ("gmlp_ti16_224", 64),
    "mobilenetv3": ("lcnet_035", 64),
    "mobilevit": ("mobilevit_xxs", 64),
    "mvitv2": ("mvitv2_tiny", 64),
    "nest": ("nest_tiny_jx", 224),
    "nfnet": ("test_nfnet", 64),
    "pit": ("pit_ti_224", 64),
    "pvt_v2": ("pvt_v2_b0", 64),
    "rdnet": ("rdnet_tiny", 64),
    "regnet": ("regnetx_002", 64),
    "repghost": ("repghostnet_050", 64),
    "repvit": ("repvit_m1", 64),
    "res2net": ("res2next50", 64),
    "resnest": ("resnest14d", 64),
    "resnet": ("test_resnet", 64),
    "resnetv2": ("resnetv2_18", 64),
    "rexnet": ("rexnet_100", 64),
    "selecsls": ("selecsls42", 64),
    "senet": ("legacy_seresnet18", 64),
    "sequencer": ("sequencer2d_s", 64),
    "shvit": ("shvit_s1", 64),
    "sknet": ("skresnet18", 64),
    "starnet": ("starnet_s050", 64),
    "swiftformer": ("swiftformer_xs", 64),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 64),
    "swin_transformer_v2": ("swinv2_tiny_window16_256", 64),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 64),
    "tiny_vit": ("tiny_vit_5m_224", 64),
    "tnt": ("tnt_s_legacy_patch16_224", 64),
    "tresnet": ("tresnet_m", 64),
    "twins": ("twins_svt_small", 64),
    "visformer": ("visformer_tiny", 64),
    "vision_transformer": ("test_vit", 64),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 64),
    "vision_transformer_relpos": ("test_vit_relpos", 64),
    "vitamin": ("vitamin_small_224", 64),
    "volo": ("volo_d1_224", 64),
    "vovnet": ("ese_vovnet19b_slim_dw", 64),
    "xception": ("legacy_xception", 64),
    "xception_aligned": ("xception41p", 64),
    "xcit": ("xcit_nano_12_p8_224", 64),
}
"""The smallest network of each module of timm, by its parameters, and the side of its images in pixels."""
LARGER = {
    "beit",
    "deepseek_vit",
    "gemma4_vit",
    "inception_resnet_v2",
    "inception_v4",
    "mobilenetv5",
    "naflexvit",
    "nasnet",
    "nextvit",
    "pnasnet",
    "qwen3_vit",
    "vgg",
    "vision_transformer_sam",
}
"""Modules whose networks all have more parameters."""
UNCUT = {
    "coat_tiny": "three rows of tokens pass its last borders",
    "crossvit_tiny_240": "two rows of tokens pass each border",
    "efficientvim_m1": "the maps of all stages add to the features",
    "hrnet_w18_small": "several maps pass each border",
    "pit_ti_224": "timm has no groups for it",
    "selecsls42": "several maps pass each border",
    "tnt_s_legacy_patch16_224": "two rows of tokens pass each border",
}
"""Networks that are frozen group by group, but run whole or in larger parts, and why."""


@pytest.mark.slow
def test_every_family_is_here() -> None:
    assert set(list_modules()) - set(FAMILIES) - LARGER == set()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_a_step_from_each_border(family: str) -> None:
    name, image_px = FAMILIES[family]
    torch.manual_seed(0)
    net = Backbone(3, name, image_px, "linear", "avg", 8, 0.0, {})
    groups = list(layer_groups(net))
    borders = len([names for names, _ in net.layer_parts() if not set(names).isdisjoint(groups)])
    assert (borders < len(groups) or groups[0] == "body") == (name in UNCUT)
    images, labels = torch.randn(2, 3, image_px, image_px), torch.tensor([0, 2])
    for train in ("head", "last:2", "all"):
        trained = trained_groups(train, groups)
        set_trainable(net, trained)
        border = frozen_border(net, trained)
        assert border or train == "all" or name in UNCUT
        with torch.no_grad():
            found = apply_part(net, 0, border, images)
        modes = [(module, module.training) for module in net.modules()]
        net.eval()  # without the chances of dropout and stochastic depth
        with torch.no_grad():
            torch.testing.assert_close(apply_part(net, border, None, found), net(images), rtol=0, atol=0)
        for module, training in modes:
            module.training = training
        before = copy.deepcopy(net.state_dict())
        optimizer = torch.optim.SGD(optimizer_groups(net, 0.0), lr=1e-3)
        functional.cross_entropy(apply_part(net, border, None, found), labels).backward()
        optimizer.step()
        frozen = {id(t) for label in groups for t in layer_groups(net)[label].state_dict(keep_vars=True).values()}
        frozen -= {id(t) for label in trained for t in layer_groups(net)[label].state_dict(keep_vars=True).values()}
        now = net.state_dict(keep_vars=True)
        changed = {id(tensor) for key, tensor in now.items() if not torch.equal(tensor, before[key])}
        assert not changed & frozen
        for label in trained:
            assert changed & {id(p) for p in layer_groups(net)[label].parameters()}, f"{label} in {train}"
