"""Where datasets are: addresses and hashes, repositories, shared drives, and what only a person can do."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Repository(BaseModel):
    """A git repository that is checked out as (a part of) a dataset's folder.

    Attributes:
        url: address.
        into: sub-folder of the dataset's folder, "" for that folder itself.
        what: what it holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    into: str = ""
    what: str


class Shared(BaseModel):
    """A file or folder that its authors share on Google Drive; no hash is published for any of them.

    Attributes:
        identifier: of the file or folder.
        what: what it holds.
        is_folder: which of the two it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identifier: str
    what: str
    is_folder: bool = False

    @property
    def url(self) -> str:
        """The address for a browser."""
        return f"https://drive.google.com/{'drive/folders' if self.is_folder else 'file/d'}/{self.identifier}"


class Source(BaseModel):
    """How a dataset is got; at most one of the first three ways.

    Attributes:
        url: address of one archive that anybody may fetch.
        file: the archive's name.
        hash: ``<algorithm>:<hex digest>`` of the archive.
        repositories: git repositories that together are the dataset.
        shared: what lies on a shared drive; it is fetched only for a user who accepts the terms.
        steps: what a person does besides; ``{folder}`` stands for the dataset's folder.
        unpacks: whether the steps end with an archive.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = None
    file: str = ""
    hash: str = ""
    repositories: tuple[Repository, ...] = ()
    shared: tuple[Shared, ...] = ()
    steps: tuple[str, ...] = ()
    unpacks: bool = True


def _file(identifier: str, what: str) -> Shared:
    return Shared(identifier=identifier, what=what)


def _folder(identifier: str, what: str) -> Shared:
    return Shared(identifier=identifier, what=what, is_folder=True)


SOURCES: dict[str, Source] = {
    "tno": Source(
        url="https://figshare.com/ndownloader/files/1475454",
        file="TNO_Image_Fusion_Dataset.zip",
        hash="md5:1ab9ce3b84dd3e5894630c13abd20953",
    ),
    "roadscene": Source(
        repositories=(Repository(url="https://github.com/hanna-xu/RoadScene", what="the images, about 65 MB"),),
        unpacks=False,
    ),
    "msrs": Source(
        repositories=(
            Repository(url="https://github.com/Linfeng-Tang/MSRS", what="the images, about 670 MB"),
            Repository(
                url="https://github.com/Lele-3/MSRS-detection-label", into="detection_lele3", what="boxes of every pair"
            ),
        ),
        unpacks=False,
    ),
    "m3fd": Source(shared=(_folder("1H-oO7bgRuVFYDcMGvxstT1nmy0WF_Y_6", "M3FD_Detection.zip and M3FD_Fusion.zip"),)),
    "llvip": Source(
        shared=(_file("1VTlT3Y7e1h-Zsne4zahjx5q0TK2ClMVv", "the registered set with the annotations of 2023"),)
    ),
    "mfnet": Source(
        steps=("Fetch ir_seg_dataset from the project page mil_multispectral of the University of Tokyo.",)
    ),
    "fmb": Source(shared=(_folder("1T_jVi80tjgyHTQDpn-TjfySyW4CK1LlF", "FMB"),)),
    "flir-aligned": Source(steps=("Follow the link to the aligned copy in one of the two repositories.",)),
    "kaist": Source(
        steps=(
            "Fetch the images, and the improved (test) and sanitised (train) annotations.",
            "Put the list of the frames of your protocol anywhere and give it as the option names.",
        )
    ),
    "ivt": Source(
        shared=(
            _file("1poc5sWwAY63zNnxlTAPSJZLNml75k6aK", "the training images and texts"),
            _file("1Z9as1GZgoSem-FqRDlBW2YYwVyr8Wfgr", "the association maps, for IVT_train/association"),
            _file("1a5fAg5wDYW0ZrIpaFPVR948zdmuAe2jQ", "the test folders"),
        )
    ),
    "ems-lite": Source(shared=(_file("166nrgrWFhUvp917E6WKRIJghN7-u8TGj", "EMS-Lite"),)),
    "ems-full": Source(shared=(_file("1AIAJBjU21Kz90TVHiSH-orHvw1Q-UUMZ", "EMS-Full"),)),
    "vlf": Source(shared=(_folder("1JPNbh-iFhkbr35FDUOYEN4WE4LnxY954", "VLFDataset, more than 4 GB"),)),
    "vlf-h5": Source(
        steps=("Make the file from the folder VLFDataset with the script of the repository; put it into {folder}.",),
        unpacks=False,
    ),
}
