"""What is signed or MACed begins with the name of its form; two forms of one name would pass for each other."""

from worker.chain import approvals, audit, outside
from worker.model.campaign_replies import Certificate
from worker.seal import announcements, certificates, checkpoints, claims, importing, lineage, rowmac, sequences

FORMS = (
    approvals._FORMAT,
    audit.LEAF,
    outside._FORMAT,
    announcements.CERTIFICATE,
    announcements.INTAKE,
    certificates.FORM.encode(),
    checkpoints.CHECKPOINT,
    claims.REQUEST,
    claims.REPLY,
    claims.EVENT,
    importing.FORM.encode(),
    lineage.SUCCESSION,
    rowmac.FORMAT,
    sequences.FORMAT,
)


def test_no_form_is_called_like_another() -> None:
    assert len(set(FORMS)) == len(FORMS)
    assert all(one.startswith(b"keyriver-") and one.endswith(b"/1") for one in FORMS)


def test_a_campaigns_certificate_names_its_form() -> None:
    assert Certificate.model_fields["form"].default == certificates.FORM
