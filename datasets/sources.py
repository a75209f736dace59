"""Where datasets are: the addresses and hashes that are known, and for the rest the steps by hand."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Source(BaseModel):
    """How a dataset is got.

    Attributes:
        url: address of one archive, or None where there is none that may be fetched without a person.
        file: the archive's name.
        hash: ``<algorithm>:<hex digest>`` of the archive.
        steps: what a person does; ``{folder}`` stands for the dataset's folder.
        unpacks: whether the steps end with an archive.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = None
    file: str = ""
    hash: str = ""
    steps: tuple[str, ...] = ()
    unpacks: bool = True


def _drive_file(identifier: str, what: str) -> str:
    return f"Fetch {what}: https://drive.google.com/file/d/{identifier} (or: pip install gdown; gdown {identifier})"


def _drive_folder(identifier: str, what: str) -> str:
    address = f"https://drive.google.com/drive/folders/{identifier}"
    return f"Fetch {what}: {address} (or: pip install gdown; gdown --folder {identifier})"


SOURCES: dict[str, Source] = {
    "tno": Source(
        url="https://figshare.com/ndownloader/files/1475454",
        file="TNO_Image_Fusion_Dataset.zip",
        hash="md5:1ab9ce3b84dd3e5894630c13abd20953",
    ),
    "roadscene": Source(
        steps=("git clone --depth 1 https://github.com/hanna-xu/RoadScene {folder}   (about 65 MB)",), unpacks=False
    ),
    "msrs": Source(
        steps=(
            "git clone --depth 1 https://github.com/Linfeng-Tang/MSRS {folder}   (about 670 MB)",
            "Boxes of every pair: git clone --depth 1 https://github.com/Lele-3/MSRS-detection-label "
            "{folder}/detection_lele3",
        ),
        unpacks=False,
    ),
    "m3fd": Source(
        steps=(_drive_folder("1H-oO7bgRuVFYDcMGvxstT1nmy0WF_Y_6", "M3FD_Detection.zip and M3FD_Fusion.zip"),)
    ),
    "llvip": Source(
        steps=(_drive_file("1VTlT3Y7e1h-Zsne4zahjx5q0TK2ClMVv", "the registered set with the annotations of 2023"),)
    ),
    "mfnet": Source(
        steps=("Fetch ir_seg_dataset from the project page mil_multispectral of the University of Tokyo.",)
    ),
    "fmb": Source(steps=(_drive_folder("1T_jVi80tjgyHTQDpn-TjfySyW4CK1LlF", "FMB"),)),
    "flir-aligned": Source(steps=("Follow the link to the aligned copy in one of the two repositories.",)),
    "kaist": Source(
        steps=(
            "Fetch the images, and the improved (test) and sanitised (train) annotations.",
            "Put the list of the frames of your protocol anywhere and give it as the option names.",
        )
    ),
    "ivt": Source(
        steps=(
            _drive_file("1poc5sWwAY63zNnxlTAPSJZLNml75k6aK", "the training images and texts"),
            _drive_file("1Z9as1GZgoSem-FqRDlBW2YYwVyr8Wfgr", "the association maps, for IVT_train/association"),
            _drive_file("1a5fAg5wDYW0ZrIpaFPVR948zdmuAe2jQ", "the test folders"),
        )
    ),
    "ems-lite": Source(steps=(_drive_file("166nrgrWFhUvp917E6WKRIJghN7-u8TGj", "EMS-Lite"),)),
    "ems-full": Source(steps=(_drive_file("1AIAJBjU21Kz90TVHiSH-orHvw1Q-UUMZ", "EMS-Full"),)),
    "vlf": Source(steps=(_drive_folder("1JPNbh-iFhkbr35FDUOYEN4WE4LnxY954", "VLFDataset (more than 4 GB)"),)),
    "vlf-h5": Source(
        steps=("Make the file from the folder VLFDataset with the script of the repository; put it into {folder}.",),
        unpacks=False,
    ),
}
