"""Addresses in object storage: what is read, and what is refused with what to write instead."""

from __future__ import annotations

import pytest

from groupwise.publishing.address import Address, has_scheme, read_address
from groupwise.publishing.layout import check_root
from groupwise.study.study import Study
from multilevel.errors import PublishError

STUDY = {"name": "small", "formula": "y ~ 1 + (1 | g)", "source": {"parquet": "lines.parquet"}}


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://warehouse", "warehouse", ""),
        ("s3://warehouse/", "warehouse", ""),
        ("s3://ware.house-1/estimates/shop/", "ware.house-1", "estimates/shop"),
        ("s3://warehouse/team=a/b_c.d", "warehouse", "team=a/b_c.d"),
        ("gs://ware_house.org/estimates/", "ware_house.org", "estimates"),
        ("az://ware-house/estimates", "ware-house", "estimates"),
    ],
)
def test_a_bucket_and_its_prefix_are_read(text: str, bucket: str, key: str):
    scheme = text.partition(":")[0]
    assert read_address(text) == Address(bucket, key, scheme)
    assert str(Address(bucket, key, scheme)) == text.rstrip("/")
    assert str(read_address(text) / "small") == f"{text.rstrip('/')}/small"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://bucket/x", "ftp: is not supported; write a folder, or s3://bucket/prefix, gs://bucket/prefix, az://container/prefix"),
        ("abfs://bucket/x", "abfs: is not supported"),
        ("file:///tmp/x", "file: is not supported"),
        ("s3:/bucket/x", "write a folder, or s3://bucket/prefix"),
        ("s3://", "bucket ''"),
        ("s3://Bucket/x", "bucket 'Bucket'"),
        ("s3://a..b/x", "bucket 'a..b'"),
        ("s3://bucket/../x", "'..' in the prefix"),
        ("s3://bucket/a//b", "'' in the prefix"),
        ("s3://bucket/a'b", '"a\'b" in the prefix'),
        ("s3://bucket/a?versionId=1", "in the prefix"),
        ("s3://key:secret@bucket/x", "without credentials"),
        ("gs://ware house/x", "bucket 'ware house'"),
        ("az://ware.house/x", "container 'ware.house'"),
        ("az://ware--house", "container 'ware--house'"),
        ("az://ab", "container 'ab'"),
        (f"az://{'a' * 64}", "container 'aaa"),
        ("az://container@account/x", "az://container/prefix without credentials; they come from AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)
def test_what_is_no_address_is_refused(text: str, said: str):
    assert has_scheme(text)
    with pytest.raises(ValueError, match=r"\S") as refused:
        read_address(text)
    assert said in str(refused.value)


def test_a_study_takes_an_address_and_drops_its_last_slash():
    assert Study.model_validate(STUDY | {"publish_to": "s3://warehouse/estimates/"}).publish_to == "s3://warehouse/estimates"


def test_a_study_refuses_credentials_in_an_address_without_repeating_them(tmp_path):
    from groupwise.study.study_file import load_study
    from multilevel.errors import StudyError

    file = tmp_path / "study.yaml"
    file.write_text("name: small\nformula: y ~ 1 + (1 | g)\nsource: {parquet: lines.parquet}\npublish_to: s3://key:hidden@bucket/x\n")
    with pytest.raises(StudyError, match=r"publish_to: 's3://[*]{3}@bucket/x': write s3://bucket/prefix without credentials") as refused:
        load_study(file)
    assert "hidden" not in str(refused.value)


def test_a_local_folder_is_never_taken_for_an_address_nor_an_address_for_a_folder():
    assert not any(has_scheme(text) for text in ("published", "/data/published", "./a", "a b/c", "2026/x"))
    with pytest.raises(PublishError, match="local folder only"):
        check_root("s3://warehouse/estimates")
