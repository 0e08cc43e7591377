"""The official list files of ImageNet-LT, Places-LT and iNaturalist 2018, and the ways their images lie on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_OLTR = "https://github.com/zhmiao/OpenLongTailRecognition-OLTR"

Place = tuple[str, str, str]  # part (train or val), class, file


@dataclass(frozen=True)
class OfficialLists:
    """The list files of a data set.

    Attributes:
        files: list file of each split.
        homes: folders of the data root that may hold the images, beside the root itself.
        archives: what to download, and the folders that hold its images, the one it unpacks to first.
        images_from: where the archives are.
        lists_from: where the lists are.
        md5: known checksums, with what each one is.
        parse: reduces a listed path to (part, class, file); the class is "" where the path does not say it.
        layouts: ways the images may lie on disk.
    """

    files: dict[str, str]
    homes: tuple[str, ...]
    archives: dict[str, tuple[str, ...]]
    images_from: str
    lists_from: str
    md5: dict[str, str]
    parse: Callable[[str], Place]
    layouts: dict[str, Callable[[Place], str]]


def _parse_places(name: str) -> Place:
    parts = name.split("/")
    part = "val" if parts[0] in ("val", "val_256") else "train"
    inner = parts[2:-1] if parts[0] == "data_256" else parts[1:-1]
    return part, "/".join(inner).replace("-", "/"), parts[-1]


def _places_original(place: Place) -> str:
    part, class_name, file = place
    return f"data_256/{class_name[0]}/{class_name}/{file}" if part == "train" else f"val_256/{file}"


def _places_hyphen(place: Place) -> str:
    part, class_name, file = place
    return f"{part}/{class_name.replace('/', '-')}/{file}"


def join_place(place: Place) -> str:
    """Return "part/class/file"."""
    return "/".join(place)


def _flat_val(place: Place) -> str:
    part, class_name, file = place
    return f"val/{file}" if part == "val" else f"train/{class_name}/{file}"


def parse_place(name: str) -> Place:
    """Take "part/class/file" apart; the class may hold "/"."""
    part, _, rest = name.partition("/")
    class_name, _, file = rest.rpartition("/")
    return part, class_name, file


OFFICIAL = {
    "imagenet": OfficialLists(
        files={},
        homes=("imagenet", "imagenet-lt"),
        archives={"ILSVRC2012_img_train.tar": ("train",), "ILSVRC2012_img_val.tar": ("val",)},
        images_from="https://image-net.org/download.php",
        lists_from="",
        md5={},
        parse=parse_place,
        layouts={"class folders": join_place},
    ),
    "imagenet-lt": OfficialLists(
        files={"train": "ImageNet_LT_train.txt", "val": "ImageNet_LT_val.txt", "test": "ImageNet_LT_test.txt"},
        homes=("imagenet-lt", "imagenet"),
        archives={"ILSVRC2012_img_train.tar": ("train",), "ILSVRC2012_img_val.tar": ("val",)},
        images_from="https://image-net.org/download.php",
        lists_from=_OLTR,
        md5={
            "ef44f8e43fbc904809a77216042e7498": "val",
            "5f5f97c738923e877c5c78accce6744f": "test",
            "e4fa7a28c06a332bf54667bdd2b5c7b7": "test, GLMC's copy",
        },
        parse=parse_place,
        layouts={"val in class folders": join_place, "val in one folder": _flat_val},
    ),
    "places-lt": OfficialLists(
        files={"train": "Places_LT_train.txt", "val": "Places_LT_val.txt", "test": "Places_LT_test.txt"},
        homes=("places-lt",),
        archives={"train_256_places365standard.tar": ("data_256", "train"), "val_256.tar": ("val_256", "val")},
        images_from="http://places2.csail.mit.edu/download.html",
        lists_from=_OLTR,
        md5={
            "d7a0fa1e2521e7d8fff4338ad1c65bed": "train, original spelling",
            "e7795ab1bf428a89f900854127b1e556": "train, hyphen spelling",
            "1e8eaa99b9753da8987e53412b636198": "train, nested spelling",
            "82c2d809e9429344f9f9a2c0d7adca36": "val, original spelling",
            "2f6e727cd6c99c7b7fdecc9876875b1b": "val, hyphen spelling",
            "6b6924fb8610a5928e78a06bd3d82f8e": "val, nested spelling",
            "c27fb6fd50c2675f1af7a5885fa8cec4": "test, original spelling",
            "1347af35b053bd31cf782256306affe7": "test, hyphen and nested spelling",
        },
        parse=_parse_places,
        layouts={"original": _places_original, "hyphen": _places_hyphen, "nested": join_place},
    ),
    "inat2018": OfficialLists(
        files={"train": "iNaturalist18_train.txt", "test": "iNaturalist18_val.txt"},
        homes=("inat2018",),
        archives={"train_val2018.tar.gz": ("train_val2018",)},
        images_from="https://github.com/visipedia/inat_comp/tree/master/2018",
        lists_from="https://github.com/facebookresearch/classifier-balancing",
        md5={
            "b7ed52f3854c157c487cc3be9deb8abf": "test (the official val)",
            "38350b042009a68ba05bfb79bca7566f": "test, GLMC's copy",
            "f30726f72c32e32d4f37c376614f8697": "test, CRLF copy",
        },
        parse=parse_place,
        layouts={"official": join_place},
    ),
}
