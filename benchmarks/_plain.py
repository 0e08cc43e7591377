"""The five systems written plainly, as a baseline: what the official codes do in a step, without ltk's engine.

Images are PIL images changed one by one, networks run in float32 and NCHW, each view takes a forward of its own, class
statistics are loops, the optimiser is torch's default, and every step reads its loss and accuracy on the host. Losses
and networks are those of ltk (a test compares them), so that the two sides differ in how they compute alone.

Suffixes: B batch, C channels, H height, W width, K classes, D features, E embedding, Q queue, A all samples.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltk.models.backbones import Backbone
from ltk.models.heads import CosineClassifier, create_mlp

Views = Sequence[Tensor]
Outcome = tuple[Tensor, Tensor]  # loss, logits_BK


class PlainMethod(nn.Module):
    """One system; heads are named as in ltk.

    Args:
        backbone: the network.
        counts_K: training images of each class.
    """

    def __init__(self, backbone: Backbone, counts_K: Tensor) -> None:
        super().__init__()
        self.backbone, self.counts_K = backbone, counts_K
        self.num_classes, self.width = len(counts_K), backbone.num_features

    def forward(self, batches: Mapping[str, tuple[Views, Tensor]]) -> Outcome:
        """Return loss and logits_BK of one (views, target_B) per stream."""
        raise NotImplementedError


class PlainCE(PlainMethod):
    """Cross-entropy."""

    def __init__(self, backbone: Backbone, counts_K: Tensor) -> None:
        super().__init__(backbone, counts_K)
        self.fc = nn.Linear(self.width, self.num_classes)

    def forward(self, batches: Mapping[str, tuple[Views, Tensor]]) -> Outcome:
        """See ``PlainMethod``."""
        (x_BCHW,), target_B = batches["main"]
        logits_BK = self.fc(self.backbone(x_BCHW))
        return F.cross_entropy(logits_BK, target_B), logits_BK


class PlainGLMC(PlainMethod):
    """Du et al. 2023: two streams of two views, MixUp and CutMix, two classifiers, consistency."""

    contrast_weight = 4.0

    def __init__(self, backbone: Backbone, counts_K: Tensor) -> None:
        super().__init__(backbone, counts_K)
        self.fc, self.fc_cb = (nn.Linear(self.width, self.num_classes) for _ in range(2))
        self.projector, self.predictor = nn.Linear(self.width, 128), nn.Linear(128, 128)
        raw_K = counts_K.double() ** -1.2
        self.class_weights_K = (raw_K / raw_K.sum() * self.num_classes).float()
        self.alpha = 1.0  # 1 - (epoch / epochs) ** 2

    def draw(self, height: int, width: int) -> tuple[float, tuple[int, int, int, int]]:
        """Return the mixing weight and the box (top, bottom, left, right)."""
        weight = float(np.random.beta(1.0, 1.0))
        side = math.sqrt(1 - weight)
        half_y, half_x = math.ceil(height * side) // 2, math.ceil(width * side) // 2
        y, x = np.random.randint(height), np.random.randint(width)
        return weight, (max(y - half_y, 0), min(y + half_y, height), max(x - half_x, 0), min(x + half_x, width))

    def forward(self, batches: Mapping[str, tuple[Views, Tensor]]) -> Outcome:
        """See ``PlainMethod``."""
        (views, target_B), (others, partner_B) = batches["main"], batches["resampled"]
        weight, (top, bottom, left, right) = self.draw(*views[0].shape[-2:])
        mixed_BCHW = weight * views[0] + (1 - weight) * others[0]
        cut_BCHW = views[1].clone()
        cut_BCHW[:, :, top:bottom, left:right] = others[1][:, :, top:bottom, left:right]
        first_BK, second_BK = (F.one_hot(y_B, self.num_classes).float() for y_B in (target_B, partner_B))
        plain_BK = weight * first_BK + (1 - weight) * second_BK
        weighted_BK = plain_BK * self.class_weights_K
        feats = [self.backbone(x_BCHW) for x_BCHW in (mixed_BCHW, cut_BCHW)]
        z = [self.projector(feats_BD) for feats_BD in feats]
        p = [self.predictor(z_BE) for z_BE in z]
        contrast = -F.cosine_similarity(p[0], z[1].detach()).mean() - F.cosine_similarity(p[1], z[0].detach()).mean()
        plain = sum(_soft_cross_entropy(self.fc(feats_BD), plain_BK) for feats_BD in feats)
        logits = [self.fc_cb(feats_BD) for feats_BD in feats]
        rebalanced = sum(_soft_cross_entropy(logits_BK, weighted_BK) for logits_BK in logits)
        loss = self.alpha * plain + (1 - self.alpha) * rebalanced + self.contrast_weight * contrast
        return loss, logits[0]


def _soft_cross_entropy(logits_BK: Tensor, target_BK: Tensor) -> Tensor:
    return -(target_BK * F.log_softmax(logits_BK, dim=1)).sum(1).mean()


class PlainGCL(PlainMethod):
    """Li et al. 2022: cosines lowered by Gaussian clouds; mixup of the losses."""

    def __init__(self, backbone: Backbone, counts_K: Tensor) -> None:
        super().__init__(backbone, counts_K)
        self.fc = CosineClassifier(self.width, self.num_classes)
        log_K = counts_K.double().log()
        self.rarity_K = ((log_K.max() - log_K) / (log_K.max() - log_K.min())).float()

    def draw_mix(self, count: int) -> tuple[float, Tensor]:
        """Return the mixing weight and the partners."""
        return float(np.random.beta(1.0, 1.0)), torch.randperm(count)

    def draw_noise(self, count: int, draw: int) -> Tensor:
        """Return noise_BK; ``draw`` counts the two losses."""
        return torch.distributions.Normal(0, 1 / 3).sample((count, self.num_classes))

    def forward(self, batches: Mapping[str, tuple[Views, Tensor]]) -> Outcome:
        """See ``PlainMethod``."""
        (x_BCHW,), target_B = batches["main"]
        weight, partner_B = self.draw_mix(len(x_BCHW))
        cosines_BK = self.fc(self.backbone(weight * x_BCHW + (1 - weight) * x_BCHW[partner_B]))
        losses = []
        for draw, labels_B in enumerate((target_B, target_B[partner_B])):
            noise_BK = self.draw_noise(len(x_BCHW), draw).clamp(-1, 1)
            clouded_BK = cosines_BK - 0.5 * noise_BK.abs() * self.rarity_K
            losses.append(F.cross_entropy(30 * clouded_BK, labels_B))
        return weight * losses[0] + (1 - weight) * losses[1], 30 * cosines_BK


class PlainResLT(PlainMethod):
    """Cui et al. 2022: three norms on the feature map, one classifier, a loss per group and one of the sum."""

    beta, medium, tail = 0.995, 65, 30

    def __init__(self, backbone: Backbone, counts_K: Tensor) -> None:
        super().__init__(backbone, counts_K)
        self.branches = nn.ModuleList([_Norms(backbone.map_features)])
        self.classifiers = nn.ModuleList([nn.Linear(backbone.map_features, self.num_classes)])
        order = torch.argsort(counts_K, stable=True).tolist()
        self.groups = [set(order), set(order[: self.medium]), set(order[: self.tail])]

    def forward(self, batches: Mapping[str, tuple[Views, Tensor]]) -> Outcome:
        """See ``PlainMethod``."""
        (x_BCHW,), target_B = batches["main"]
        map_BDHW = self.backbone.forward_map(x_BCHW)
        norms: nn.ModuleList = self.branches[0].norms  # type: ignore[assignment]
        logits = [self.classifiers[0](norm(map_BDHW).mean(dim=(2, 3))) for norm in norms]
        total, count = torch.zeros(()), 0
        for logits_BK, group in zip(logits, self.groups, strict=True):
            index = [i for i, label in enumerate(target_B.tolist()) if label in group]
            if index:
                log_p_BK = torch.log(F.softmax(logits_BK[index], dim=1) + 1e-7)
                total = total + F.nll_loss(log_p_BK, target_B[index], reduction="sum")
            count += len(index)
        fused_BK = logits[0] + logits[1] + logits[2]
        return self.beta * total / count + (1 - self.beta) * F.cross_entropy(fused_BK, target_B), fused_BK


class _Norms(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))


class GradientMatrices:
    """What each class (row) has received from images of each class (column), filled by a loop over images.

    Every step adds the whole history, split by a mask into what classes received from their own images and from
    those of others, and sums both along both sides, of which the loss reads two.

    Args:
        num_classes: K; four K x K matrices are kept: the running total, its two parts summed over steps, the mask.
    """

    def __init__(self, num_classes: int) -> None:
        self.received_KK, self.positive_KK, self.negative_KK = (torch.zeros(num_classes, num_classes) for _ in range(3))
        self.eye_KK = torch.eye(num_classes)
        self.class_positive_K, self.class_negative_K, self.sample_positive_K, self.sample_negative_K = (
            torch.zeros(num_classes) for _ in range(4)
        )

    def add(self, p_BK: Tensor, target_B: Tensor) -> None:
        """Add |dL/dz| of every image."""
        for i in range(len(target_B)):
            label = int(target_B[i].item())
            gradient_K = p_BK[i] / len(target_B)
            gradient_K[label] = 1 / len(target_B) - gradient_K[label]
            self.received_KK[:, label] += gradient_K
        self.positive_KK += self.received_KK * self.eye_KK
        self.negative_KK += self.received_KK * (1 - self.eye_KK)
        self.class_positive_K, self.class_negative_K = self.positive_KK.sum(1), self.negative_KK.sum(1)
        self.sample_positive_K, self.sample_negative_K = self.positive_KK.sum(0), self.negative_KK.sum(0)

    def margins(self) -> tuple[Tensor, Tensor]:
        """Return log theta_K of what classes received, and log phi_K of what their images sent to others."""
        return torch.log(self.class_positive_K + 1e-3), torch.log(self.sample_negative_K + 1e-3)


class PlainBaGMar(PlainMethod):
    """Zhang et al. 2024: logits are raised by the gradient that each class has received."""

    def __init__(self, backbone: Backbone, counts_K: Tensor) -> None:
        super().__init__(backbone, counts_K)
        self.fc = nn.Linear(self.width, self.num_classes)
        self.gradients = GradientMatrices(self.num_classes)

    def forward(self, batches: Mapping[str, tuple[Views, Tensor]]) -> Outcome:
        """See ``PlainMethod``."""
        (x_BCHW,), target_B = batches["main"]
        logits_BK = self.fc(self.backbone(x_BCHW))
        received_K, sent_K = self.gradients.margins()
        adjusted_BK = logits_BK + received_K - sent_K[target_B, None]
        loss = F.cross_entropy(adjusted_BK, target_B)
        self.gradients.add(F.softmax(adjusted_BK.detach(), dim=1), target_B)
        return loss, logits_BK


class PlainPaCo(PlainMethod):
    """Cui et al. 2021: momentum encoder, queue, class centres."""

    embedding, queue_size, temperature, alpha, momentum = 32, 1024, 0.05, 0.01, 0.999

    def __init__(self, backbone: Backbone, counts_K: Tensor) -> None:
        super().__init__(backbone, counts_K)
        self.classifier = nn.Linear(self.width, self.num_classes)
        self.projector = self.create_projector()
        self.create_key_encoder()
        self.prior_K = counts_K / counts_K.sum()
        self.keys_QE = F.normalize(torch.randn(self.queue_size, self.embedding), dim=0)
        self.labels_Q = torch.randint(self.num_classes, (self.queue_size,))
        self.pointer = torch.zeros(1, dtype=torch.int64)

    def create_projector(self) -> nn.Module:
        """Return what embeds features."""
        return create_mlp(self.width, self.width, self.embedding, norm=True)

    def create_key_encoder(self) -> None:
        """Copy backbone and projector."""
        self.key_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.key_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def forward(self, batches: Mapping[str, tuple[Views, Tensor]]) -> Outcome:
        """See ``PlainMethod``."""
        (query_BCHW, key_BCHW), target_B = batches["main"]
        feats_BD = self.backbone(query_BCHW)
        query_BE = F.normalize(self.projector(feats_BD), dim=1)
        with torch.no_grad():
            pairs = ((self.key_backbone, self.backbone), (self.key_projector, self.projector))
            for copied, original in pairs:
                for follower, leader in zip(copied.parameters(), original.parameters(), strict=True):
                    follower.data = follower.data * self.momentum + leader.data * (1 - self.momentum)
            key_BE = F.normalize(self.key_projector(self.key_backbone(key_BCHW)), dim=1)
        logits_BK = self.classifier(feats_BD)
        loss = self.contrast([query_BE, key_BE], [logits_BK], target_B)
        self.enqueue(key_BE, target_B)
        return loss, logits_BK

    def contrast(self, embeddings: Sequence[Tensor], logits: Sequence[Tensor], target_B: Tensor) -> Tensor:
        """Return one softmax over class centres and all other samples; the anchors are the rows of ``logits``."""
        feats_AE = torch.cat([*embeddings, self.keys_QE.clone()])
        labels_A = torch.cat([target_B] * len(embeddings) + [self.labels_Q.clone()])
        centers_NK = torch.cat(list(logits)) + torch.log(self.prior_K + 1e-9)
        count = len(centers_NK)
        samples_NA = feats_AE[:count] @ feats_AE.T / self.temperature
        all_NJ = torch.cat([centers_NK, samples_NA], dim=1)
        all_NJ = all_NJ - all_NJ.max(dim=1, keepdim=True).values.detach()
        others_NA = 1 - torch.eye(count, len(labels_A))
        positives_NA = (labels_A[:count, None] == labels_A).float() * others_NA * self.alpha
        weights_NJ = torch.cat([F.one_hot(labels_A[:count], self.num_classes).float(), positives_NA], dim=1)
        present_NJ = torch.cat([torch.ones_like(centers_NK), others_NA], dim=1)
        log_p_NJ = all_NJ - torch.log((all_NJ.exp() * present_NJ).sum(1, keepdim=True) + 1e-12)
        return -((weights_NJ * log_p_NJ).sum(1) / weights_NJ.sum(1)).mean()

    @torch.no_grad()
    def enqueue(self, key_BE: Tensor, target_B: Tensor) -> None:
        """Write the keys at the pointer, which is read on the host."""
        start = int(self.pointer)
        end = min(start + len(key_BE), self.queue_size)
        self.keys_QE[start:end] = key_BE[: end - start]
        self.labels_Q[start:end] = target_B[: end - start]
        self.pointer[0] = end % self.queue_size


class PlainGPaCo(PlainPaCo):
    """Cui et al. 2023: both views are anchors, with gradient; no momentum encoder."""

    def create_projector(self) -> nn.Module:
        """Return what embeds features."""
        return create_mlp(self.width, self.width, self.width, self.embedding)

    def create_key_encoder(self) -> None:
        """There is none."""

    def forward(self, batches: Mapping[str, tuple[Views, Tensor]]) -> Outcome:
        """See ``PlainMethod``."""
        views, target_B = batches["main"]
        feats = [self.backbone(x_BCHW) for x_BCHW in views]
        embeddings = [F.normalize(self.projector(feats_BD), dim=1) for feats_BD in feats]
        logits = [self.classifier(feats_BD) for feats_BD in feats]
        loss = self.contrast(embeddings, logits, target_B)
        self.enqueue(embeddings[1].detach(), target_B)
        return loss, logits[0]


PLAIN: dict[str, Callable[[Backbone, Tensor], PlainMethod]] = {
    "ce": PlainCE,
    "glmc": PlainGLMC,
    "gcl": PlainGCL,
    "paco": PlainPaCo,
    "gpaco": PlainGPaCo,
    "reslt": PlainResLT,
    "bagmar": PlainBaGMar,
}
