"""Signs PDF files with pyHanko's own CSC client, unchanged, through version 1 in explicit mode, and validates them.

Reads a job from standard input: {service_url, token, credential, pin, otp, anchors, pss, hash, contract, files: [[variant, output], …]}.
All files go into one batch: one authorization, one call of signHash.
"""

import asyncio
import io
import json
import sys

import aiohttp
from pyhanko.keys import load_certs_from_pemder
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import PageObject, PdfFileWriter, copy_into_new_writer
from pyhanko.sign import fields, signers
from pyhanko.sign.fields import MDPPerm, SigFieldSpec, SigSeedSubFilter
from pyhanko.sign.signers import csc_signer
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

job = json.load(sys.stdin)


class Authorization(csc_signer.CSCAuthorizationManager):
    """What a program does that asks its user for PIN and one-time code."""

    def __init__(self, session, info, credential):
        super().__init__(info, credential)
        self.session = session

    async def authorize_signature(self, hash_b64s):
        request = self.format_csc_auth_request(
            pin=job["pin"], otp=job["otp"], hash_b64s=hash_b64s, description="pyHanko"
        )
        url = self.csc_session_info.endpoint_url("credentials/authorize")
        async with self.session.post(url, headers=self.auth_headers, json=request) as answer:
            body = await answer.json()
            assert answer.status == 200, body
            return self.parse_csc_auth_response(body)

    @property
    def auth_headers(self):
        return self.csc_session_info.auth_headers


def written(writer):
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def contract():
    with open(job["contract"], "rb") as file:
        return file.read()


def rewritten(stream_xrefs):
    writer = copy_into_new_writer(PdfFileReader(io.BytesIO(contract()), strict=False))
    writer.stream_xrefs = stream_xrefs
    return written(writer)


def pages(count):
    writer = PdfFileWriter(stream_xrefs=count % 2 == 0)
    for n in range(count):
        text = generic.StreamObject(stream_data=b"0.9 g %d %d 200 100 re f" % (50 + n, 50 + n))
        media = generic.ArrayObject(map(generic.NumberObject, (0, 0, 595, 842)))
        writer.insert_page(PageObject(contents=writer.add_object(text), media_box=media))
    return written(writer)


def updated():
    writer = IncrementalPdfFileWriter(io.BytesIO(contract()), strict=False)
    info = generic.DictionaryObject({generic.pdf_name("/Title"): generic.pdf_string("契約書")})
    writer.set_info(writer.add_object(info))
    return written(writer)


def with_field(**more):
    writer = IncrementalPdfFileWriter(io.BytesIO(contract()), strict=False)
    fields.append_signature_field(writer, SigFieldSpec("Signature1", **more))
    return written(writer)


# Each a file and how it is signed.
VARIANTS = {
    "as it is": (contract, {}),
    "cross-reference streams": (lambda: rewritten(True), {}),
    "cross-reference table": (lambda: rewritten(False), {}),
    "one page": (lambda: pages(1), {"reason": "契約", "location": "東京"}),
    "forty pages": (lambda: pages(40), {"name": "髙橋 花子"}),
    "updated before": (updated, {}),
    "a field that waits": (with_field, {}),
    "a field to be seen": (lambda: with_field(box=(50, 50, 250, 150)), {}),
    "certified": (contract, {"certify": True, "docmdp_permissions": MDPPerm.FILL_FORMS}),
    "PAdES": (contract, {"subfilter": SigSeedSubFilter.PADES}),
}


async def sign(signer, variant, target):
    make, how = VARIANTS[variant]
    writer = IncrementalPdfFileWriter(io.BytesIO(make()), strict=False)
    meta = signers.PdfSignatureMetadata(
        field_name="Signature1", md_algorithm=job["hash"], **how
    )
    signed = await signers.async_sign_pdf(writer, meta, signer=signer)
    with open(target, "wb") as file:
        file.write(signed.getbuffer())


async def main():
    info = csc_signer.CSCServiceSessionInfo(
        service_url=job["service_url"],
        credential_id=job["credential"],
        oauth_token=job["token"],
        api_ver="v1",
    )
    async with aiohttp.ClientSession() as session:
        credential = await csc_signer.fetch_certs_in_csc_credential(session, info)
        assert credential.hash_pinning_required, "SCAL 2"
        signer = csc_signer.CSCSigner(
            session,
            Authorization(session, info, credential),
            prefer_pss=job["pss"],
            batch_size=len(job["files"]),
        )
        await asyncio.gather(*(sign(signer, variant, target) for variant, target in job["files"]))


asyncio.run(main())
roots = list(load_certs_from_pemder([job["anchors"]]))
for variant, target in job["files"]:
    with open(target, "rb") as file:
        (signature,) = PdfFileReader(file, strict=False).embedded_signatures
        mechanism = signature.signer_info["signature_algorithm"].signature_algo
        assert job["pss"] == (mechanism == "rsassa_pss"), mechanism
        if job["pss"]:
            # The longest salt that a key of 3072 bits has room for.
            parameters = signature.signer_info["signature_algorithm"]["parameters"]
            salt = parameters["salt_length"].native
            assert salt > 300, salt
        context = ValidationContext(trust_roots=roots, allow_fetching=False)
        status = validate_pdf_signature(signature, signer_validation_context=context)
        assert status.bottom_line, (variant, status.pretty_print_details())
print("signed and valid:", len(job["files"]))
