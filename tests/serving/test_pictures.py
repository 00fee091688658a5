"""Pictures over raw HTTP: their owner gets them in every form, everybody else the same 404 as for what never was."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from urllib.parse import quote

import pytest
from PIL import Image

from cascade_app.gallery.png import encode_png, read_record
from cascade_app.gallery.reading import read
from tests.gallery.test_gallery import PICTURE, record_of
from tests.serving.conftest import keep, serve

FORMS = ("{id}.png", "{id}.jpg", "{id}.webp", "{id}/plain.png", "{id}/plain.jpg", "{id}/plain.webp", "{id}/thumbnail.jpg",
         "selection.zip?ids={id}", "{id}.png?download", "selection.zip?ids={none},{id}")  # fmt: skip
NONE = "f" * 32


@pytest.mark.parametrize("form", FORMS)
def test_only_the_owner_gets_it(browser, form):
    owner, other, stranger = browser(), browser(), browser(opened=False)
    id = keep(owner, "a secret")
    url = "/pictures/" + form.format(id=id, none=NONE)
    answer = owner.get(url)
    assert answer.status_code == 200 and len(answer.content) > 50
    assert answer.headers["cache-control"] == "private, no-cache" and answer.headers["vary"] == "Cookie"
    nothing = other.get("/pictures/" + form.format(id=NONE, none=NONE))
    for client in (other, stranger):
        for refused in (client.get(url), client.get(url, headers={"If-None-Match": answer.headers.get("etag", "*")})):
            assert refused.status_code == 404 and refused.content == nothing.content
            assert {name: value for name, value in refused.headers.items() if name != "date"} == {
                name: value for name, value in nothing.headers.items() if name != "date"
            }
    assert client.head(url).status_code == 404 and client.post(url).status_code in (404, 405)


def test_no_file_route_serves_the_folder(browser, gallery):
    """Not even to the owner: Gradio's own route asks nobody who they are."""
    owner = browser()
    id = keep(owner, "a secret")
    (path,) = gallery.folder.rglob(f"*{id}.png")
    database = gallery.index.path
    for target in (path, path.parent, database, gallery.folder / path.parent.name / ".." / path.parent.name / path.name):
        for route in ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/gradio_api/proxy=", "/pictures/", "/static/"):
            for spelled in (str(target), quote(str(target), safe=""), str(target).lstrip("/"), f"file://{target}"):
                assert owner.get(route + spelled).status_code in (400, 403, 404, 405), route + spelled


@pytest.mark.parametrize(
    "id", ["..%2f..%2findex.sqlite3", "%00", "a" * 31, "A" * 32, "a" * 5000, "*", "%2e%2e", "'; DROP TABLE picture; --"]
)
def test_what_is_no_id_is_not_found(browser, id):
    client = browser()
    assert client.get(f"/pictures/{id}.png").status_code == 404
    assert client.get(f"/pictures/{id}/thumbnail.jpg").status_code == 404


def test_the_png_is_the_file_and_others_are_made_of_it(browser, gallery, tmp_path):
    owner = browser()
    id = keep(owner, "a boat, 船")
    (path,) = gallery.folder.rglob(f"*{id}.png")
    whole = owner.get(f"/pictures/{id}.png")
    assert whole.content == path.read_bytes() and whole.headers["content-type"] == "image/png"
    saved = tmp_path / "saved.png"
    saved.write_bytes(whole.content)
    assert read_record(saved).id == id
    for suffix, format in (("jpg", "JPEG"), ("webp", "WEBP")):
        answer = owner.get(f"/pictures/{id}.{suffix}?download")
        assert answer.headers["content-type"] == f"image/{format.lower()}"
        assert answer.headers["content-disposition"].endswith(f'-a-boat-7.{suffix}"')
        with Image.open(io.BytesIO(answer.content), formats=[format]) as image:
            assert image.size == PICTURE.size
    for url in (f"/pictures/{id}.gif", f"/pictures/{id}.tiff", f"/pictures/{id}/plain.json"):
        assert owner.get(url).status_code == 404


def test_a_browser_that_has_it_is_told_so(browser):
    owner = browser()
    id = keep(owner, "a boat")
    tag = owner.get(f"/pictures/{id}.png").headers["etag"]
    again = owner.get(f"/pictures/{id}.png", headers={"If-None-Match": tag})
    assert again.status_code == 304 and not again.content
    assert owner.get(f"/pictures/{id}/plain.png", headers={"If-None-Match": tag}).status_code == 200


def test_a_selection_is_a_zip_of_pictures_with_their_settings(browser):
    owner, other = browser(), browser()
    mine, foreign = [keep(owner, "one"), keep(owner, "two")], keep(other, "three")
    answer = owner.get(f"/pictures/selection.zip?ids={','.join([*mine, foreign, NONE, mine[0]])}")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert [name.rpartition(".")[2] for name in names] == ["png", "json"] * 2
        settings = [json.loads(archive.read(name)) for name in names[1::2]]
    assert [one["id"] for one in settings] == mine
    assert [one["request"]["prompt"] for one in settings] == ["one", "two"]


def test_deleted_is_still_there_and_purged_is_gone(browser, gallery):
    owner = browser()
    id = keep(owner, "a boat")
    (path,) = gallery.folder.rglob(f"*{id}.png")
    album = gallery.of(path.parent.name)
    tag = owner.get(f"/pictures/{id}.png").headers["etag"]
    album.delete([id])
    assert owner.get(f"/pictures/{id}.png").status_code == 200
    album.purge([id])
    for url in (f"/pictures/{id}.png", f"/pictures/{id}/thumbnail.jpg", f"/pictures/selection.zip?ids={id}"):
        assert owner.get(url, headers={"If-None-Match": tag}).status_code == 404


def test_a_file_that_somebody_damaged_is_a_sentence(browser, gallery):
    owner = browser()
    id = keep(owner, "a boat")
    (path,) = gallery.folder.rglob(f"*{id}.png")
    path.write_bytes(path.read_bytes()[:100])
    for url in (f"/pictures/{id}.jpg", f"/pictures/{id}/plain.png", f"/pictures/{id}/thumbnail.jpg"):
        answer = owner.get(url)
        assert answer.status_code == 503 and "try again" in answer.text
    path.unlink()
    assert owner.get(f"/pictures/{id}.png").status_code == 404


def test_where_a_login_is_set_up_it_decides(gallery):
    served = serve(gallery, auth=[("anna", "apple"), ("bert", "berry")])
    import httpx

    address = next(served)
    try:

        def login(name: str, password: str) -> httpx.Client:
            client = httpx.Client(base_url=address)
            client.post("/login", data={"username": name, "password": password}).raise_for_status()
            # over plain http a client leaves out the cookie meant for https, as a browser does
            client.get("/")
            return client

        anna, bert, elsewhere = login("anna", "apple"), login("bert", "berry"), login("anna", "apple")
        id = keep(anna, "a secret")
        assert anna.get(f"/pictures/{id}.png").status_code == 200
        assert elsewhere.get(f"/pictures/{id}.png").status_code == 200, "the login is the visitor, not the browser"
        assert bert.get(f"/pictures/{id}.png").status_code == 404
        stolen = httpx.Client(base_url=address, cookies={"cascade_visitor": anna.cookies["cascade_visitor"]})
        assert stolen.get(f"/pictures/{id}.png").status_code == 404, "without a login the cookie is nobody"
        assert stolen.post("/gradio_api/run/keep", json={"data": ["x"]}).status_code == 401
    finally:
        next(served, None)


def drop(client, data: bytes, **headers: str):
    return client.post("/pictures", content=data, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_dropped_download_is_in_the_other_visitors_gallery_too(browser):
    owner, other = browser(), browser()
    id = keep(owner, "a boat")
    data = owner.get(f"/pictures/{id}.png").content
    assert other.get(f"/pictures/{id}.png").status_code == 404
    answer = drop(other, data).json()
    # the picture of these tests has another size than its settings say, so that it is not kept
    assert answer["id"] is None and answer["source"] == "ours" and answer["values"]["prompt"] == "a boat"
    assert "changed after it was saved" in answer["notes"][0]
    with Image.open(io.BytesIO(data)) as image:
        kept = encode_png(image.resize((256, 256)), replace(read_record_of(data), id=id))
    answer = drop(other, kept).json()
    assert answer["id"] == id and answer["notes"] == []
    assert other.get(f"/pictures/{id}.png").status_code == 200
    assert owner.get(f"/pictures/{id}.png").content == data, "the owner's own is another file"


def read_record_of(data: bytes):
    return read(data).record


@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [(b"", 400, "no PNG"), (b"hello", 400, "no PNG"), (b"\x89PNG\r\n\x1a\n", 400, "damaged"),
     (bytes(2_000_001), 413, "larger than 2 MB")],
    ids=["empty", "text", "cut off", "too large"],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_in_a_sentence(browser, data: bytes, status: int, sentence: str):
    answer = drop(browser(), data)
    assert answer.status_code == status and sentence in answer.json()["error"]
    assert answer.json()["error"].isprintable()


def test_nobody_can_put_pictures_into_anothers_gallery(browser, gallery):
    data = encode_png(PICTURE.copy().resize((256, 256)), record_of("planted"))
    stranger, victim = browser(opened=False), browser()
    assert drop(stranger, data).status_code == 403
    for site in ("cross-site", "same-site"):
        assert drop(victim, data, Sec_Fetch_Site=site).status_code == 403
    assert drop(victim, data, Sec_Fetch_Site="same-origin").json()["id"]
    assert victim.put("/pictures", content=data).status_code == 405
