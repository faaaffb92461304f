"""Pages of persons who do not exist, for every form: as they come, as short and as long as may be, and hostile ones.

The same seed gives the same pages, on any machine.
"""

from __future__ import annotations

import copy
import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from printsvc.domain.form import PageData
from printsvc.domain.valuesets import PRODUCTS, PROPHYLAXES
from printsvc.render.fastqr import alphanumeric_capacity
from printsvc.render.formfile import Form

ALPHANUMERIC: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
FAMILIES: Final = (
    "NGUYỄN", "TRẦN", "LÊ", "PHẠM", "HOÀNG", "HUỲNH", "PHAN", "VŨ", "VÕ", "ĐẶNG", "BÙI", "ĐỖ", "HỒ", "NGÔ", "DƯƠNG",
    "LÝ", "ĐOÀN", "TRƯƠNG", "ĐINH",
)  # fmt: skip
MIDDLES: Final = (
    "THỊ", "VĂN", "ĐỨC", "MINH", "NGỌC", "THANH", "QUỐC", "HỮU", "XUÂN", "THU", "KIM", "BẢO", "GIA", "ANH", "PHƯƠNG",
    "HOÀNG",
)  # fmt: skip
NAMES: Final = (
    "KHAI", "ANH", "HÙNG", "LAN", "HƯƠNG", "DŨNG", "TUẤN", "HẢI", "NGHĨA", "TRINH", "QUỲNH", "THẢO", "LINH", "MAI",
    "PHÚC", "LỘC", "YẾN", "VY", "ĐẠT", "SƠN", "THỦY", "NHI", "Ý",
)  # fmt: skip
FOREIGN: Final = (
    "SMITH JOHN", "MÜLLER JÜRGEN", "GARCÍA LÓPEZ MARÍA JOSÉ", "O'BRIEN SEAN", "KIM MIN-JUN", "ŁUKASIEWICZ ŻANETA",
    "DUPONT-AIGNAN NICOLAS", "SUHARTO", "VAN DEN BERG PIETER JAN WILLEM", "ABDUL RAHMAN BIN MOHAMMED",
    "ÖZTÜRK ŞEYMA", "ÅSTRÖM BJÖRN", "DVOŘÁKOVÁ KATEŘINA", "NÚÑEZ DE LA PEÑA IÑAKI", "D’ARTAGNAN Ÿ", "Ð ÞÓRÐUR",
    "H'HEN NIÊ", "Y MOAN ÊNUÔL", "K'BRƠI", "SÙNG SEO LỬ", "St. JOHN-STEVAS, N.", "al-Khwārizmī Muḥammad",
)  # fmt: skip
LONG_NAMES: Final = (
    "CÔNG TẰNG TÔN NỮ NGUYỄN PHƯỚC THỊ HOÀNG PHƯƠNG KHÁNH",
    "NGUYỄN ỄỆ ĐỖ THỊ QUỲNH TRƯỜNG KHƯƠNG NGUYỄN ỄỆ ĐỖ THỊ QUỲNH TRƯỜNG KHƯƠNG NGUYỄ",
    "DE ALBUQUERQUE CAVALCANTI MONTENEGRO DA SILVA E SOUSA JOÃO PEDRO MARIA FRANCISCO XAVIER",
    "WOLFESCHLEGELSTEINHAUSENBERGERDORFF HUBERT BLAINE",
    "NGUYỄN LÊ TRẦN THỊ NGỌC PHƯƠNG QUỲNH TRÂM ANH THƯ",
)
PLACES: Final = (
    "Trạm Y tế phường Phố Huế", "Trung tâm Y tế quận Hai Bà Trưng", "Bệnh viện Bạch Mai", "Bệnh viện 19-8 Bộ Công an",
    "Trạm Y tế xã Đông Anh, huyện Đông Anh, thành phố Hà Nội", "Trung tâm Kiểm soát bệnh tật TP. Hồ Chí Minh",
    "Bệnh viện Đa khoa tỉnh Thừa Thiên - Huế", "Trạm Y tế phường 12, quận Gò Vấp, TP. Hồ Chí Minh",
    "Điểm tiêm lưu động Nhà thi đấu Phú Thọ, quận 11", "Trường THCS Nguyễn Du, phường Bến Nghé, quận 1",
    "TRẠM Y TẾ XÃ ẲNG TỞ", "Huế", "BV Đ.Y.D. (cơ sở 2)",
)  # fmt: skip
LONG_PLACES: Final = (
    "Trung tâm Kiểm soát bệnh tật TP. Hồ Chí Minh, điểm tiêm lưu động Nhà thi đấu Phú Thọ",
    "Trung tâm Kiểm soát bệnh tật thành phố Hồ Chí Minh, Sở Y tế thành phố Hồ Chí Minh",
    "Trường Tiểu học và Trung học cơ sở Nguyễn Bỉnh Khiêm, phường Thống Nhất, TP. Buôn Ma Thuột",
)
NATIONS: Final = (
    "Việt Nam / Viet Nam", "Lào / Lao People's Democratic Republic", "Đức / Germany", "Singapore",
    "Saint Vincent và Grenadines / Saint Vincent and the Grenadines", "Hàn Quốc / Korea, Republic of",
)  # fmt: skip
STREETS: Final = ("Phố Huế", "Trần Hưng Đạo", "Nguyễn Thị Minh Khai", "Lý Thường Kiệt", "30/4", "Âu Cơ")
LABELS: Final = (
    "Mũi 1 / Dose 1", "Mũi 2 / Dose 2", "Mũi 3 / Dose 3", "Bổ sung / Additional", "Nhắc lại 1 / Booster 1",
    "Nhắc lại 2 / Booster 2", "Nhắc lại 3 / Booster 3",
)  # fmt: skip
HOSTILE: Final = (
    "AĂÂBCDĐEÊGHIKLMNOÔƠPQRSTUƯVXYÁẠẢÃẤẬẨẪẮẶẲẴÉẸẺẼẾỆỂỄÍỊỈĨÓỌỎÕỐỘỔỖỚỢỞỠÚỤỦŨỨỰỬỮÝỴỶỸÄÖÜßÑÇŁŻŠabcđêịơụừyfWTVjJ1908.,'-/()"
)
# Pairs that are kerned far, wide and narrow letters, and what lines break at.
HOSTILE_WORDS: Final = (
    "AVAVA", "TÝ", "LỸ", "Ta.", "WWWW", "iiii", "P.Q.", "Y-A", "r'n", "11111", "Ễ", "ỄỄỄỄỄỄ", "VÕ-LÝ", "A/B", "1/2",
    "(Ê)", "Đ.Đ.", "7-11", "T.A.V.", "ffi", "fl", "Tp.HCM", "a", "Ỵ", "—", "•", "<", "100%", "#1", "&", "N°4", "“Ý”",
)  # fmt: skip
# What a field may hold, where it is not any text.
NARROW: Final[Mapping[str, str]] = {
    "name_line": "ABCDEFGHIJKLMNOPQRSTUVWXYZ<",
    "id_masked": "•0123456789ABCX",
    "phone_masked": "•0123456789+",
    "doses_received": "0123456789/",
    "dose_number": "0123456789",
    **dict.fromkeys(("date", "date_of_birth", "injected_on", "issued_on", "expires_on"), "0123456789/-"),
}
_FIELDS: Final = (
    "full_name", "name_line", "date_of_birth", "sex", "nationality", "id_label", "id_masked", "disease",
    "doses_received", "injected_on", "dose_number", "vaccine", "product", "manufacturer", "authority", "site_name",
    "issued_on", "expires_on", "phone_masked", "address",
)  # fmt: skip
_ROW_FIELDS: Final = ("label", "date", "product", "manufacturer", "lot", "site")
_OPTIONAL: Final = ("id_label", "id_masked", "phone_masked", "address")
# Most characters of a hostile text: beyond them hardly any form has room, and nothing would be compared.
_MOST: Final[Mapping[str, int]] = {
    "full_name": 70, "name_line": 44, "site_name": 60, "authority": 60, "address": 120, "nationality": 60,
    "vaccine": 60, "product": 24, "manufacturer": 24, "site": 60, "label": 22, "lot": 14, "sex": 14,
    "id_label": 18, "disease": 24, "id_masked": 14, "phone_masked": 14, "doses_received": 6, "dose_number": 3,
}  # fmt: skip


def person(dice: random.Random, sample: PageData, form: Form) -> PageData:
    """Return a page as the service makes it, with no more doses than the form's table holds."""
    name = dice.choice(FOREIGN) if dice.random() < 0.04 else vietnamese_name(dice)
    identity = dice.choices([("CCCD", "••••••••"), ("Hộ chiếu / Passport", "•••••"), ("", "")], [90, 5, 5])[0]
    basic = dice.choice([1, 2, 2, 2, 3, 3])
    boosters = dice.choice([0, 0, 0, 1, 2, 3])
    used = [*(n < basic for n in range(3)), dice.random() < 0.15, *(n < boosters for n in range(3))]
    used = [use and sum(used[:number]) < (form.doses or 7) for number, use in enumerate(used)]
    product, manufacturer, vaccine = _product(dice)
    return changed(
        sample,
        full_name=name,
        name_line=latin_line(name),
        date_of_birth=day(dice, 1925, 2015),
        sex=dice.choice(["Nữ / Female", "Nam / Male"]),
        id_label=identity[0],
        id_masked=identity[1] and identity[1] + f"{dice.randint(0, 9999):04d}",
        doses_received=f"{sum(used)}/{sum(used)}",
        dose_number=str(sum(used)),
        injected_on=day(dice, 2021, 2022),
        issued_on=day(dice, 2021, 2022),
        expires_on=day(dice, 2022, 2023),
        vaccine=vaccine,
        product=product,
        manufacturer=manufacturer,
        authority=dice.choice(PLACES[:3]),
        site_name=dice.choice(PLACES),
        copy_number=2 if dice.random() < 0.05 else 1,
        rows=[_row(dice, n, attested=not any(used[n + 1 :])) if used[n] else None for n in range(7)],
        phone_masked="••••••" + f"{dice.randint(0, 9999):04d}" if dice.random() < 0.9 else "",
        address=f"{dice.randint(1, 400)} {dice.choice(STREETS)}, {dice.choice(PLACES[4:8])}"[
            : dice.choice((60, 120))
        ].strip(" ,")
        if dice.random() < 0.9
        else "",
        qr=payload(dice, min(dice.randint(430, 640), _most_qr(form))),
        **_uvci(dice),
    )


def foreigner(dice: random.Random, sample: PageData, form: Form) -> PageData:
    """Return a page of somebody with another passport, often with a name that no Vietnamese has."""
    name = dice.choice(FOREIGN)
    return changed(
        person(dice, sample, form),
        full_name=name,
        name_line=latin_line(name),
        nationality=dice.choice(NATIONS),
        id_label="Hộ chiếu / Passport",
        id_masked="•••••" + f"{dice.randint(0, 9999):04d}",
    )


def shortest(dice: random.Random, sample: PageData, form: Form) -> PageData:
    """Return a page with as little on it as may be: one dose, nothing known of it, everything empty that may be."""
    name = dice.choice(("Ý", "AN", "Y", "LÊ Ý", "Ô"))
    at = dice.randrange(7)
    row = {"label": LABELS[at], "date": day(dice, 2021, 2022), "product": "Abdala", "manufacturer": "", "lot": "",
           "site": "", "attested": True}  # fmt: skip
    return changed(
        person(dice, sample, form),
        full_name=name,
        name_line=latin_line(name) or "A",
        authority="Huế",
        site_name="Huế",
        manufacturer="CIGB",
        product="Abdala",
        rows=[row if number == at else None for number in range(7)],
        qr=payload(dice, dice.randint(12, 120)),
        **dict.fromkeys(_OPTIONAL, ""),
    )


def longest(dice: random.Random, sample: PageData, form: Form) -> PageData:
    """Return a page with every row used and the longest texts that intake and the value sets let through."""
    name = dice.choice(LONG_NAMES)
    place = dice.choice(LONG_PLACES)
    rows = [
        {
            "label": LABELS[number],
            "date": day(dice, 2021, 2022),
            "product": max((one.name for one in dice.sample(list(PRODUCTS.values()), 4)), key=len),
            "manufacturer": max((one.manufacturer for one in PRODUCTS.values()), key=len),
            "lot": dice.choice(("AB/1234-5678 90-X/12", "LOT 00000001 0000002", "FG3712-A/FG3713-B")),
            "site": dice.choice(LONG_PLACES),
            "attested": number == (form.doses or 7) - 1,
        }
        if number < (form.doses or 7)
        else None
        for number in range(7)
    ]
    longest_product = max(PRODUCTS.values(), key=lambda one: len(one.name) + len(one.manufacturer))
    kind = max(PROPHYLAXES.values(), key=lambda one: len(one.vi) + len(one.en))
    return changed(
        person(dice, sample, form),
        full_name=name,
        name_line=latin_line(name),
        nationality=max(NATIONS, key=len),
        id_label="Hộ chiếu / Passport",
        id_masked="•" * dice.randint(8, 16) + "8888",
        phone_masked="•" * dice.randint(8, 28) + "8888",
        address=("Số 1234/56/78 đường Nguyễn Thị Minh Khai, tổ dân phố 17, khu phố Ễ, phường Nguyễn Cư Trinh, " * 4)[
            : dice.randint(150, 300)
        ].strip(" ,"),
        doses_received="10/10",
        dose_number="10",
        copy_number=dice.choice((1, 2, 188)),
        vaccine=f"{kind.vi} / {kind.en}",
        product=longest_product.name,
        manufacturer=longest_product.manufacturer,
        authority=place,
        site_name=dice.choice(LONG_PLACES),
        rows=rows,
        qr=payload(dice, _most_qr(form) - dice.randint(0, 120)),
    )


def hostile(dice: random.Random, sample: PageData, form: Form) -> PageData:
    """Return a page with some texts that nobody has: letters of every kind, at any length, kerned and broken."""
    page = cast(dict[str, Any], person(dice, sample, form))
    for field in dice.sample(_FIELDS, dice.randint(1, 5)):
        page[field] = _hostile_text(dice, field)
    for row in page["rows"]:
        if row is not None:
            for field in dice.sample(_ROW_FIELDS, dice.randint(0, 2)):
                row[field] = _hostile_text(dice, field)
    for field in (*_OPTIONAL, "name_line"):
        if dice.random() < 0.08:
            page[field] = ""
    if dice.random() < 0.3:
        page["copy_number"] = dice.choice((1, 2, 9, 10, 12, 41, 100, 188))
    if dice.random() < 0.4:
        fill = dice.getrandbits(form.doses or 7)
        given = [row for row in page["rows"] if row is not None]
        page["rows"] = [
            {**dice.choice(given), "attested": dice.random() < 0.25} if fill >> number & 1 else None
            for number in range(7)
        ]
    version = dice.randint(form.qr.min_version, form.qr.max_version)
    if dice.random() < 0.6:
        page["qr"] = payload(dice, dice.randint(1, alphanumeric_capacity(form.qr.level, version)))
    return cast(PageData, page)


KINDS: Final[Mapping[str, tuple[Callable[[random.Random, PageData, Form], PageData], int]]] = {
    "person": (person, 60),
    "foreigner": (foreigner, 16),
    "shortest": (shortest, 8),
    "longest": (longest, 16),
}


def everybody(seed: str, sample: PageData, form: Form) -> Iterator[tuple[str, PageData]]:
    """Give pages without end, each with the word for its kind."""
    kinds, weights = list(KINDS), [weight for _, weight in KINDS.values()]
    number = 0
    while True:
        dice = random.Random(f"{seed}/{number}")
        kind = dice.choices(kinds, weights)[0]
        yield kind, KINDS[kind][0](dice, sample, form)
        number += 1


def changed(page: PageData, **values: Any) -> PageData:
    return cast(PageData, copy.deepcopy(page) | values)


def day(dice: random.Random, first: int, last: int) -> str:
    return f"{dice.randint(1, 28):02d}/{dice.randint(1, 12):02d}/{dice.randint(first, last)}"


def vietnamese_name(dice: random.Random) -> str:
    return " ".join([dice.choice(FAMILIES), *dice.sample(MIDDLES, dice.choice([0, 1, 1, 1, 2])), dice.choice(NAMES)])


def latin_line(name: str) -> str:
    """Something like the name in ICAO's letters."""
    plain = unicodedata.normalize("NFD", name.upper().replace("Đ", "D").replace("Ł", "L"))
    return "<".join(filter(None, (re.sub("[^A-Z]", "", word) for word in plain.replace("-", " ").split())))


def payload(dice: random.Random, length: int) -> str:
    return ("HC1:" + "".join(dice.choices(ALPHANUMERIC, k=length)))[:length]


def _uvci(dice: random.Random) -> dict[str, Any]:
    code = "".join(dice.choices("0123456789ABCDEF", k=32))
    groups = ["URN:UVCI:01:VN:", *(code[at : at + 4] for at in range(0, 32, 4)), "#" + dice.choice(ALPHANUMERIC[:36])]
    return {"uvci": "".join(groups), "uvci_groups": groups}


def _product(dice: random.Random) -> tuple[str, str, str]:
    product = dice.choice(list(PRODUCTS.values()))
    kind = PROPHYLAXES[product.prophylaxis]
    return product.name, product.manufacturer, f"{kind.vi} / {kind.en}"


def _row(dice: random.Random, number: int, *, attested: bool) -> dict[str, Any]:
    product, manufacturer, _ = _product(dice)
    known = dice.random() < 0.9
    return {
        "label": LABELS[number],
        "date": day(dice, 2021, 2022),
        "product": product,
        "manufacturer": manufacturer,
        "lot": "".join(dice.choices("ABCDEFGHKLMNPRSTVW", k=2)) + str(dice.randint(1000, 99999)) if known else "",
        "site": dice.choice(PLACES) if known else "",
        "attested": attested,
    }


def _most_qr(form: Form) -> int:
    return alphanumeric_capacity(form.qr.level, form.qr.max_version)


def _hostile_text(dice: random.Random, field: str) -> str:
    most = _MOST.get(field, 10)
    if field in NARROW:
        return "".join(dice.choices(NARROW[field], k=dice.randint(1, most)))
    length = dice.randint(1, most)
    match dice.randrange(5):
        case 0:  # of one letter, at the edge of some box at some size
            text = dice.choice("AWiỄ1lM") * length
        case 1:
            text = " ".join(dice.choices(HOSTILE_WORDS, k=1 + length // 5))
        case 2:
            text = vietnamese_name(dice) + " " + dice.choice(HOSTILE_WORDS)
        case _:
            text = "".join(" " if dice.random() < 0.17 else dice.choice(HOSTILE) for _ in range(length))
    return " ".join(text[:most].split()) or dice.choice("ỄA1")
