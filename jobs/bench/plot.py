"""Draws mean curves: PSNR and SSIM over bits a pixel."""

from __future__ import annotations

from pathlib import Path


def plot(curves: dict[str, list[dict[str, float]]], path: Path, title: str) -> None:
    """Write a PNG of every curve; ours are thick."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(13, 5.5))
    for axis, metric, label in zip(axes, ("psnr", "ssim"), ("PSNR (dB)", "SSIM"), strict=True):
        for name, points in curves.items():
            ours = "nfe_encode" in points[0]
            axis.plot(
                [p["bpp"] for p in points],
                [p[metric] for p in points],
                marker="o",
                ms=4,
                lw=2.6 if ours else 1.2,
                label=name,
            )
        axis.set_xscale("log")
        axis.set_xlabel("bits a pixel, every byte counted")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
