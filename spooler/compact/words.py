"""What deflate may look back at before a message begins: texts that are said often, known to both sides.

A dictionary that was ever released is never changed, or what the other side packed would unpack to something else: a
new one gets the next number. `tests/spooler/test_compact.py` holds their digests.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import cbor2

from printsvc.credential.cbor import encode_cbor

NEWEST: Final = 1

# What is said often, the most frequent last: deflate looks back from the end.
_WORDS_1: Final = (
    "service-error", "stamp-differs", "no-usable-queue", "witness-empty", "aborted-by-printer", "printer-silent",
    "media-empty-error", "media-low-warning", "toner-low-warning", "marker-supply-low-warning", "duplicate", "refused",
    "uncertain", "returned", "failed", "applied", "sent", "submitted", "printed", "printer",
    "image/pwg-raster", "image/urf", "application/pdf", "ipp://", "ipps://", "/ipp/print", " - IPP Everywhere",
    "Hộ chiếu / Passport", "Khác / Other", "Sputnik V", "Gamaleya", "Vero Cell", "Sinopharm Beijing",
    "Inactivated whole SARS-CoV-2 vaccine", "Vắc xin bất hoạt / ", "1157024006", "BBIBP-CorV", "ORG-100020693",
    "Jcovden", "Janssen", "EU/1/20/1525", "ORG-100001417", "Abdala", "CIGB", "1162643001", "Nuvaxovid", "Novavax",
    "SARS-CoV-2 recombinant spike protein vaccine", "Vắc xin protein tái tổ hợp / ", "EU/1/21/1618", "ORG-100032020",
    "Vaxzevria", "AstraZeneca", "29061000087103", "EU/1/21/1529", "ORG-100001699",
    "Vắc xin véc tơ vi rút / COVID-19 non-replicating viral vector vaccine",
    "Spikevax", "Moderna", "EU/1/20/1507", "ORG-100031184", "Comirnaty", "Pfizer/BioNTech",
    "Vắc xin mRNA phòng SARS-CoV-2 / SARS-CoV-2 mRNA vaccine",
    "Nhắc lại 1 / Booster 1", "Bổ sung 1 / Additional 1", "Mũi 3 / Dose 3", "Mũi 1 / Dose 1", "Mũi 2 / Dose 2",
    "/2021", "/2022", "/2023", "/2024", "/2025", "/2026", "/2027", "/2028",
    "TRUNG TÂM Y TẾ QUẬN ", "TRUNG TÂM Y TẾ HUYỆN ", "Trung tâm Y tế quận ", "SỞ Y TẾ ", "BỆNH VIỆN ",
    "Điểm tiêm lưu động ", "Trạm Y tế xã ", "Trạm Y tế phường ",
    "TP. Hồ Chí Minh", "Đà Nẵng", "Cần Thơ", "Hải Phòng", ", tỉnh ", ", huyện ", "thị trấn ", ", thị xã ", ", xã ",
    ", phường ", ", quận ", ", TP. ", ", Hà Nội", "tổ dân phố số ", ", đường ", "chung cư ", "Số ", "thôn ", "ấp ",
    "1/1", "2/2", "COVID-19", "CCCD / ID card", "Nam / Male", "Nữ / Female", "Việt Nam / Vietnam",
    "ĐẶNG ", "BÙI ", "ĐỖ ", "HỒ ", "NGÔ ", "DƯƠNG ", "VÕ ", "PHAN ", "HUỲNH ", "HOÀNG ", "PHẠM ", "LÊ ", "TRẦN ",
    "THANH ", "MINH ", "NGỌC ", "ĐỨC ", "HỮU ", "VĂN ", "NGUYỄN ", "THỊ ", "<<VAN<", "PHAM<<", "TRAN<<", "LE<<",
    "NGUYEN<<THI<", "••••••", "••••••••", "iso_a4_210x297mm", "a4/43-2022",
)  # fmt: skip
_CLAIMS_1: Final = {
    1: "Bộ Y tế Việt Nam",
    4: 1_700_000_000,
    6: 1_690_000_000,
    -260: {
        1: {
            "v": [
                {
                    "ci": "URN:UVCI:01:VN:",
                    "co": "VN",
                    "dn": 2,
                    "dt": "2021-10-30",
                    "is": "Bộ Y tế Việt Nam",
                    "ma": "ORG-100030215",
                    "mp": "EU/1/20/1528",
                    "sd": 2,
                    "tg": "840539006",
                    "vp": "1119349007",
                }
            ],
            "dob": "1985-04-12",
            "nam": {"fn": "NGUYỄN", "gn": "THỊ ", "fnt": "NGUYEN", "gnt": "THI<"},
            "ver": "1.3.0",
        }
    },
}


@cache
def known_words(number: int) -> bytes:
    """Return what deflate may look back at before the message begins."""
    assert number == NEWEST
    signed = encode_cbor(cbor2.CBORTag(18, [encode_cbor({1: -7, 4: bytes(8)}), {}, encode_cbor(_CLAIMS_1), b""]))
    return b"\0".join([*(word.encode() for word in _WORDS_1), signed])
