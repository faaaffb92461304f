"""Persons and their doses, made up: the same seed gives the same ones. Nobody's data.

The mixture is what a site sees: most are Vietnamese with three or four words of name, some of the peoples of the
highlands and of the south, one in thirty a foreigner; some names and addresses are very long, some very short.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

FAMILIES = (
    ("NGUYỄN", 38), ("TRẦN", 12), ("LÊ", 10), ("PHẠM", 7), ("HUỲNH", 5), ("PHAN", 5), ("VÕ", 4), ("ĐẶNG", 3),
    ("BÙI", 3), ("ĐỖ", 2), ("HỒ", 2), ("NGÔ", 2), ("DƯƠNG", 1), ("LÝ", 1), ("TRƯƠNG", 1), ("ĐINH", 1), ("MAI", 1),
)  # fmt: skip
MIDDLES = {
    "female": ("THỊ", "THỊ", "THỊ", "NGỌC", "THU", "PHƯƠNG", "THÙY", "KIM", "MỸ", "BÍCH", "THANH", "QUỲNH", "NHƯ"),
    "male": ("VĂN", "VĂN", "VĂN", "HỮU", "ĐỨC", "MINH", "QUỐC", "CÔNG", "XUÂN", "GIA", "ĐÌNH", "TUẤN", "HOÀNG"),
}
GIVENS = {
    "female": (
        "LAN",
        "HOA",
        "HƯƠNG",
        "THẢO",
        "NHUNG",
        "TUYẾT",
        "YẾN",
        "OANH",
        "VY",
        "Ý",
        "HẰNG",
        "NGUYỆT",
        "LỤA",
        "ÁNH",
    ),
    "male": ("HÙNG", "DŨNG", "TUẤN", "NAM", "SƠN", "VŨ", "KIỆT", "ĐẠT", "PHÚC", "THẮNG", "ÂN", "TỴ", "HIẾU", "QUÝ"),
}
HIGHLANDS = (
    "H'HEN NIÊ",
    "Y MOAN ÊNUÔL",
    "K'BRƠI",
    "LÒ THỊ PẢNH",
    "GIÀNG A CHỨ",
    "THẠCH SÔ PHA",
    "ĐIỂU KRÉ",
    "SÙNG SEO LỬ",
)
LONG_NAMES = (
    "CÔNG TẰNG TÔN NỮ NGUYỄN PHƯỚC THỊ HOÀNG PHƯƠNG KHÁNH",
    "TÔN THẤT NGUYỄN HOÀNG QUỐC BẢO MINH TRƯỜNG",
    "NGUYỄN LÊ TRẦN THỊ NGỌC PHƯƠNG QUỲNH TRÂM ANH THƯ",
    "HỒ HOÀNG NGUYỄN PHÚC VĨNH THỤY KHẢI",
)
FOREIGNERS = (
    ("KH", "SOK", "CHANTHA"), ("LA", "PHOMMASAN", "BOUNMY"), ("KR", "KIM", "MIN-JUN"), ("JP", "YAMAMOTO", "HARUKA"),
    ("FR", "LEFÈVRE", "CHLOÉ"), ("DE", "MÜLLER", "JÜRGEN"), ("US", "O'CONNOR", "MARY ANN"), ("CN", "ZHANG", "WEI"),
    ("PL", "WIŚNIEWSKA", "AGNIESZKA"), ("IN", "SUBRAMANIAN", "VENKATARAMANAN"), ("ES", "GARCÍA-MUÑOZ", "JOSÉ MARÍA"),
    ("ID", "", "SUHARTINI"), ("BR", "DE ALBUQUERQUE CAVALCANTI", "JOÃO PEDRO"), ("TR", "YILMAZ", "İSMAİL"),
)  # fmt: skip
STREETS = ("Trần Hưng Đạo", "Lê Lợi", "Nguyễn Văn Cừ", "Quang Trung", "Hai Bà Trưng", "Phố Huế", "Lý Thường Kiệt")
WARDS = ("phường Lê Đại Hành", "xã Ẳng Tở", "phường Mỹ An", "xã Tân Thông Hội", "thị trấn Mộc Châu", "phường 12")
DISTRICTS = ("quận Hai Bà Trưng, Hà Nội", "huyện Củ Chi, TP. Hồ Chí Minh", "huyện Mường Ảng, tỉnh Điện Biên", "TP. Huế")
PROVINCES = ("001", "031", "048", "079", "092", "011", "046", "068")
PRODUCTS = ("EU/1/20/1528", "EU/1/20/1507", "EU/1/21/1529", "EU/1/20/1525")
SITES = (
    ("HN-HBT-01", "Trạm Y tế phường Lê Đại Hành", "TRUNG TÂM Y TẾ QUẬN HAI BÀ TRƯNG"),
    ("HCM-11-04", "Điểm tiêm lưu động Nhà thi đấu Phú Thọ", "TRUNG TÂM Y TẾ QUẬN 11"),
    ("DB-MA-02", "Trạm Y tế xã Ẳng Tở", "TRUNG TÂM Y TẾ HUYỆN MƯỜNG ẢNG"),
    ("DN-NHS-01", "Trạm Y tế phường Mỹ An", "TRUNG TÂM Y TẾ QUẬN NGŨ HÀNH SƠN"),
)


def dose_events(seed: int, *, now: datetime, first: int = 0) -> Iterator[dict[str, Any]]:
    """Give dose events without end, as the Platform sends them; each has its own random numbers, by its place."""
    number = first
    while True:
        # As text: a tuple would be hashed with what differs from process to process.
        yield _event(random.Random(f"{seed}/{number}"), number, now)
        number += 1


def _event(chance: random.Random, number: int, now: datetime) -> dict[str, Any]:
    sex = chance.choice(("female", "male"))
    born = date(chance.randint(1932, 2008), chance.randint(1, 12), chance.randint(1, 28))
    person = _foreigner(chance) if chance.random() < 1 / 30 else _vietnamese(chance, sex, born)
    person |= {"sex": sex, "date_of_birth": born.isoformat(), "address": _address(chance)}
    if chance.random() < 0.9:
        person["phone"] = "0" + "".join(chance.choices("0123456789", k=9))
    dose = chance.randint(1, 2)
    matched = person["nationality"] == "VN"
    identity = {"status": "matched" if matched else "exempt", "checked_at": _text(now - timedelta(minutes=15))}
    return {
        "dose_id": f"B-{number:09d}",
        "site_id": chance.choice(SITES)[0],
        "person": person,
        "identity": identity,
        "dose": {
            "product": chance.choice(PRODUCTS[:3]),
            "lot": chance.choice("FEPAC") + chance.choice("ABCDEFGH") + f"{chance.randint(0, 9999):04d}",
            "number": dose,
            "series": 2,
            "kind": "basic",
            "injected_at": _text(now - timedelta(minutes=chance.randint(1, 600))),
        },
    }


def _vietnamese(chance: random.Random, sex: str, born: date) -> dict[str, Any]:
    draw = chance.random()
    if draw < 0.02:
        name = chance.choice(HIGHLANDS)
    elif draw < 0.03:
        name = chance.choice(LONG_NAMES)
    elif draw < 0.035:
        name = chance.choice(("Ý VY", "LÊ Ý", "VÕ AN"))
    else:
        family = chance.choices([name for name, _ in FAMILIES], [weight for _, weight in FAMILIES])[0]
        middles = chance.choices(MIDDLES[sex], k=chance.choice((1, 1, 1, 2, 2, 3)))
        name = " ".join([family, *dict.fromkeys(middles), chance.choice(GIVENS[sex])])
    half = ("0" if sex == "male" else "1") if born.year < 2000 else ("2" if sex == "male" else "3")
    tail = "".join(chance.choices("0123456789", k=6))
    return {
        "full_name": name,
        "nationality": "VN",
        "id_type": "cccd",
        "id_number": f"{chance.choice(PROVINCES)}{half}{born.year % 100:02d}{tail}",
    }


def _foreigner(chance: random.Random) -> dict[str, Any]:
    nationality, family, given = chance.choice(FOREIGNERS)
    number = chance.choice("ABCDEFGHKLMNP") + "".join(chance.choices("0123456789", k=8))
    names = {"family_name": family, "given_name": given} if family else {"full_name": given}
    return names | {"nationality": nationality, "id_type": "passport", "id_number": number}


def _address(chance: random.Random) -> str:
    tail = f"{chance.choice(WARDS)}, {chance.choice(DISTRICTS)}"
    match chance.randrange(4):
        case 0:
            return tail
        case 1:
            block = f"Căn hộ B{chance.randint(2, 30)}-{chance.randint(1, 20):02d}, chung cư số {chance.randint(1, 9)}"
            return f"{block}, tổ dân phố số {chance.randint(1, 30)}, đường {chance.choice(STREETS)}, {tail}"
        case _:
            return f"Số {chance.randint(1, 400)}/{chance.randint(1, 90)} {chance.choice(STREETS)}, {tail}"


def _text(moment: datetime) -> str:
    return moment.isoformat()
