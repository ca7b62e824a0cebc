"""Screenshots, receipts, slides and signs, drawn afresh: fonts, sizes, colours, languages and JPEG quality vary."""

from __future__ import annotations

import functools
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageFilter

from arrowlens.models import DEMO

_MERGES = Path(__file__).parents[2] / "arrowlens" / "conversion" / "clip_merges.txt.gz"
_ACCENTED = """
Größe Straße Müller Zürich Köln Prüfung Übung Ärzte Öffnung Gebühr Schlüssel Frühstück Bücher Gemüse Käse Brötchen
Rechnung Mehrwertsteuer Bahnhof Flughafen Kündigung Versicherung Geschäft Währung Lösung
été forêt hôtel théâtre école café crème château élève février août reçu français garçon leçon maîtresse dîner gâteau
naïve préfecture boulangerie bibliothèque médecin température système
niño mañana señor español año montaña compañía dirección información teléfono número página médico público rápido fácil
avión jardín corazón también según película estación
"""
_CHINESE = """
自行车 发票 北京 上海 图书馆 火车站 飞机场 电话 地址 价格 总计 数量 日期 学校 医院 银行 超市 餐厅
菜单 面条 米饭 牛肉 鸡蛋 苹果 香蕉 咖啡 茶叶 牛奶 面包 水果 蔬菜 天气 今天 明天 星期 会议
报告 项目 经理 公司 合同 签字 护照 签证 旅游 酒店 房间 钥匙 密码 电脑 手机 屏幕 键盘 网络
音乐 电影 照片 春天 夏天 秋天 冬天 朋友 家庭 孩子 老师 学生 考试 成绩 历史 数学 科学 艺术
"""
_COLOURS = (
    ((255, 255, 255), (20, 20, 20)),
    ((30, 31, 38), (230, 230, 235)),
    ((250, 245, 225), (60, 40, 20)),
    ((20, 60, 120), (255, 255, 255)),
    ((255, 221, 51), (30, 30, 30)),
    ((235, 240, 245), (150, 30, 40)),
)


@dataclass(frozen=True)
class Document:
    """A drawn picture.

    Attributes:
        kind: "screenshot", "receipt", "slide" or "sign". data: a PNG or JPEG.
        words: that stand in it. question: three of them.
    """

    kind: str
    data: bytes
    suffix: str
    words: tuple[str, ...]
    question: str


@functools.cache
def _english() -> list[str]:
    lines = gzip.decompress(_MERGES.read_bytes()).decode().splitlines()
    words = ["".join(line.split()).removesuffix("</w>") for line in lines if line.endswith("</w>")]
    return [word for word in words if word.isascii() and word.isalpha() and 5 <= len(word) <= 11][2_000:9_000]


def document(number: int) -> Document:
    """The document of a number; each is another one, always the same."""
    rng = np.random.default_rng([18, number])
    kind = ("screenshot", "receipt", "slide", "sign")[number % 4]
    is_chinese = number % 7 == 3
    n_words = {"screenshot": 36, "receipt": 20, "slide": 12, "sign": 4}[kind]
    if is_chinese:
        words = list(rng.choice(_CHINESE.split(), n_words, replace=False))
    else:
        n_accented = n_words // 3
        words = [
            *rng.choice(_ACCENTED.split(), n_accented, replace=False),
            *rng.choice(_english(), n_words - n_accented),
        ]
        rng.shuffle(words)
        words = [word.capitalize() if rng.random() < 0.3 else str(word) for word in words]
    size = int({"screenshot": rng.integers(14, 21), "receipt": rng.integers(17, 26)}.get(kind, rng.integers(34, 60)))
    face = cv2.FontFace("uni" if is_chinese else str(rng.choice(["sans", "italic", "uni"])))
    a_line = {"screenshot": 6, "receipt": 2, "slide": 3, "sign": 2}[kind]
    lines = [words[start : start + a_line] for start in range(0, n_words, a_line)]
    pixels = _drawn(kind, lines, size, face, rng)
    question = " ".join(rng.choice(words, 3, replace=False))
    data, suffix = _encoded(pixels, kind, number, rng)
    return Document(kind, data, suffix, tuple(words), question)


def _drawn(kind: str, lines: list[list[str]], size: int, face: object, rng: np.random.Generator) -> np.ndarray:
    background, colour = _COLOURS[int(rng.integers(len(_COLOURS)))]
    weight = int(rng.choice([400, 600])) if kind != "receipt" else 400
    texts = ["  ".join(words) for words in lines]
    widths = [cv2.getTextSize((0, 0), text, (0, 0), face, size, weight)[2] for text in texts]
    step = int(size * rng.uniform(1.5, 2.1))
    width = max({"screenshot": 1100, "slide": 1280}.get(kind, 0), max(widths) + 60)
    height = max({"screenshot": 640, "slide": 720}.get(kind, 0), step * (len(lines) + 2))
    pixels = np.full((height, width, 3), background, np.uint8)
    if kind == "sign":  # on a photograph's place: a plate in a bundled picture, a little askew
        pictures = sorted((DEMO.parent / "samples" / "pictures").glob("*/*"))
        scene = (
            Image.open(pictures[int(rng.integers(len(pictures)))]).convert("RGB").resize((width + 200, height + 240))
        )
    for number, text in enumerate(texts):
        cv2.putText(pixels, text, (30, step * (number + 1) + size // 2), colour, face, size, weight)
    if kind != "sign":
        return pixels
    plate = Image.fromarray(pixels).convert("RGBA").rotate(float(rng.uniform(-8, 8)), Image.Resampling.BICUBIC, True)
    scene.paste(plate, (90, 90), plate)
    return np.asarray(scene)


def _encoded(pixels: np.ndarray, kind: str, number: int, rng: np.random.Generator) -> tuple[bytes, str]:
    image = Image.fromarray(pixels)
    if kind == "receipt":
        image = image.filter(ImageFilter.GaussianBlur(0.6))
    if number % 10 == 9:
        image = image.transpose(Image.Transpose.ROTATE_90)
    file = io.BytesIO()
    if number % 3 == 0:
        image.save(file, "PNG")
        return file.getvalue(), "png"
    image.save(file, "JPEG", quality=int(rng.integers(45, 95)))
    return file.getvalue(), "jpg"
