"""Every route, in one table: path, handler, who may call, what goes in. The OpenAPI document is made from it."""

from __future__ import annotations

from aiohttp import web

from printsvc.credential.revocation_snapshot import MEDIA_TYPE
from printsvc.flows.intake import DoseEventIn, IdentityIn
from printsvc.web import (
    certificates,
    daybags,
    doses,
    fleet,
    lines,
    now,
    ops,
    papers,
    printers,
    reissues,
    revocations,
    signers,
    sites,
    trust,
    verify,
)
from printsvc.web.openapi import openapi_document
from printsvc.web.route import Route

__all__ = ["ROUTES", "Route", "add_routes"]

_P, _A, _S = "platform", "admin", "site"
_CERTIFICATE = "/v1/certificates/{uvci}"
_SITE = "/v1/sites/{site_id}"
_PRINTERS = "/v1/printers/{site_id}"
_JOB = "/v1/print-jobs/{job_id}"
_REVOCATIONS = "/v1/revocations"
_REISSUES = "/v1/reissues"
_PAGE = ("site_id", "after", "limit")
_SOURCE = "/v1/trust-sources/{source}"
_SIGNER = "/v1/signers/{thumbprint}"
_BAGS = "/v1/day-bags"

ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/doses", doses.post_doses, (_P,), DoseEventIn, (200, 201, 202), also_takes=(doses.NDJSON,)),
    Route("GET", "/v1/doses/{dose_id}", doses.get_dose, (_P, _A, _S)),
    Route("POST", "/v1/doses/{dose_id}/identity", doses.post_identity, (_P, _A), IdentityIn, (200, 201, 202)),
    Route("POST", "/v1/doses/{dose_id}/seen-in-app", doses.post_seen_in_app, (_P, _A, _S), doses.SeenInAppIn),
    Route("POST", "/v1/identity-checks", doses.post_identity_check, (_P, _A, _S), doses.CheckIn),
    # The bare route comes last of these: a UVCI may end in a slash, so it takes whatever the others do not.
    Route(
        "GET",
        _CERTIFICATE + ".pdf",
        certificates.get_certificate_pdf,
        (_P, _A, _S),
        media="application/pdf",
        query=("seal",),
    ),
    Route("GET", _CERTIFICATE + "/papers", papers.get_papers, (_P, _A, _S)),
    Route("POST", _CERTIFICATE + "/papers", papers.post_paper, (_A, _S), papers.CopyIn, (201,)),
    Route("GET", _CERTIFICATE, certificates.get_certificate, (_P, _A, _S)),
    Route(
        "POST",
        "/v1/papers/scan",
        papers.post_scan,
        (_A, _S),
        papers.ScanIn,
        also_takes=papers.PICTURES,
        query=papers.IN_QUERY,
    ),
    Route("GET", "/v1/print-jobs", certificates.list_print_jobs, (_A, _S), query=("site_id", "state")),
    Route("GET", _JOB, certificates.get_print_job, (_A, _S)),
    Route("POST", _JOB + "/settle", certificates.settle_print_job, (_A, _S), certificates.SeenIn),
    Route("POST", _JOB + "/retry", certificates.retry_print_job, (_A, _S)),
    Route("POST", _JOB + "/holder-lost", certificates.lose_holder, (_A, _S)),
    Route("GET", "/v1/sites", sites.list_sites, (_A, _P)),
    Route("POST", "/v1/sites", sites.post_site, (_A,), sites.SiteIn, (200, 201)),
    Route("PUT", _SITE, sites.put_site, (_A,), sites.SiteChange),
    Route("GET", _SITE + "/worklist", now.get_worklist, (_A, _P, _S)),
    Route("GET", _SITE + "/now", now.get_site_now, (_A, _P, _S), answers=(200, 304)),
    Route("GET", "/v1/provinces/{code}/now", now.get_province_now, (_A, _P, "province"), answers=(200, 304)),
    Route("POST", "/v1/provinces/{code}/tokens", now.post_province_token, (_A,), answers=(201,)),
    Route("POST", _SITE + "/enrolment-codes", sites.post_enrolment_code, (_A,), answers=(201,)),
    Route("POST", _SITE + "/tokens", sites.post_site_token, (_A,), answers=(201,)),
    Route("GET", _SITE + "/agents", sites.list_agents, (_A, _S)),
    Route("DELETE", _SITE + "/agents/{agent_id}", sites.delete_agent, (_A,)),
    Route("GET", "/v1/printers", printers.list_printers, (_A, _S), query=("site_id",)),
    Route("GET", _PRINTERS + "/queues/{queue}", printers.get_printer, (_A, _S)),
    Route("PUT", _PRINTERS + "/queues/{queue}/settings", printers.put_settings, (_A,), printers.SettingIn),
    Route("GET", _PRINTERS + "/commands", printers.list_commands, (_A, _S), query=("queue", "job_id", "limit")),
    Route("POST", _PRINTERS + "/commands", printers.post_command, (_A, _S), printers.CommandIn, (200, 202)),
    Route("GET", _PRINTERS + "/commands/{command_id}", printers.get_command, (_A, _S)),
    Route("GET", "/v1/lines", lines.list_lines, (_A, _S), query=("site_id",)),
    Route("GET", _SITE + "/health", fleet.get_site_health, (_A, _S)),
    Route("GET", "/v1/fleet", fleet.get_fleet, (_A,), query=("only", "province", "order", "after", "limit")),
    Route("GET", "/v1/alerts", fleet.list_alerts, (_A, _S), query=("state", "site_id", "limit")),
    Route("GET", "/v1/alert-rules", fleet.list_alert_rules, (_A, _S)),
    Route("GET", "/v1/stats", sites.get_stats, (_A, _P, _S), query=("site_id",)),
    Route(
        "GET",
        _REVOCATIONS,
        revocations.list_revocations,
        (_A, _P, _S),
        query=("uvci", "reason", "kid", "state", "after", "limit"),
    ),
    Route("POST", _REVOCATIONS, revocations.post_revocation, (_A,), revocations.RevokeIn, (200, 201)),
    Route("POST", _REVOCATIONS + "/undo", revocations.post_undo, (_A,), revocations.UndoIn),
    Route("POST", _REVOCATIONS + "/query", revocations.post_query, (_A,), revocations.QueryIn, (200, 202)),
    Route(
        "POST",
        _REVOCATIONS + "/csv",
        revocations.post_csv,
        (_A,),
        answers=(200, 202),
        also_takes=(revocations.CSV,),
        query=("dry_run", "skip_bad", "reason", "run_id"),
    ),
    Route("GET", _REVOCATIONS + "/runs", revocations.list_runs, (_A,)),
    Route("GET", _REVOCATIONS + "/runs/{run_id}", revocations.get_run, (_A,)),
    Route("POST", _REVOCATIONS + "/runs/{run_id}", revocations.post_run, (_A,), answers=(200, 202)),
    Route(
        "GET",
        _REVOCATIONS + "/stale-papers",
        revocations.get_stale_papers,
        (_A, _S),
        query=("site_id", "after", "limit"),
    ),
    Route("GET", _REVOCATIONS + "/hashes/{hash}", revocations.get_hash),
    Route("GET", _REVOCATIONS + "/snapshot", revocations.get_snapshot, answers=(200, 304), media=MEDIA_TYPE),
    Route("GET", _REVOCATIONS + "/delta", revocations.get_delta, answers=(200, 304), media=MEDIA_TYPE, query=("from",)),
    Route("GET", _REVOCATIONS + "/batches", revocations.list_batches, query=("after", "limit")),
    Route("GET", _REVOCATIONS + "/batches/{batch_id}", revocations.get_batch, query=("hash_type",)),
    Route("POST", _REISSUES, reissues.post_reissue, (_A,), reissues.ReissueIn, (200, 202)),
    Route("GET", _REISSUES, reissues.list_reissues, (_A,)),
    Route("GET", _REISSUES + "/stale-papers", reissues.get_reissue_papers, (_A, _S), query=_PAGE),
    Route("GET", _REISSUES + "/{run_id}", reissues.get_reissue, (_A,)),
    Route("POST", _REISSUES + "/{run_id}", reissues.post_reissue_run, (_A,), answers=(200, 202)),
    Route(
        "GET",
        _REISSUES + "/{run_id}/items",
        reissues.list_reissue_items,
        (_A,),
        query=("outcome", "after", "limit"),
    ),
    Route("POST", "/v1/verify", verify.post_verify, (), verify.VerifyIn, also_takes=verify.FILES),
    Route("GET", "/v1/trust-list", trust.get_trust_list),
    Route("GET", "/v1/trust-list.jws", trust.get_signed_trust_list, media=trust.JOSE),
    Route("GET", "/v1/trust-list.eu.json", trust.get_gateway_list),
    Route("GET", "/v1/trust-list.p7b", trust.get_certificate_bundle, media=trust.BUNDLE),
    Route("GET", "/v1/trusted-keys", trust.get_trusted_keys),
    Route("GET", "/signercertificateUpdate", trust.get_certificate_update, answers=(200, 204), media="text/plain"),
    Route("GET", "/signercertificateStatus", trust.get_certificate_status),
    Route("GET", "/v1/trust-sources", trust.list_trust_sources, (_A,)),
    Route("GET", _SOURCE, trust.get_trust_source, (_A,)),
    Route("POST", _SOURCE, trust.post_trust_source, (_A,), trust.ListIn),
    Route("DELETE", _SOURCE, trust.delete_trust_source, (_A,)),
    Route("GET", "/v1/signers", signers.list_signers, (_A,)),
    Route("POST", "/v1/signers", signers.post_signer, (_A,), signers.SignerIn, (200, 201)),
    Route("GET", _SIGNER + "/certificates", signers.get_signer_certificates, (_A,)),
    Route("POST", _SIGNER + "/start", signers.start_signer, (_A,)),
    Route("POST", _SIGNER + "/compromise", signers.compromise_signer, (_A,), signers.CompromiseIn),
    Route("GET", _BAGS, daybags.list_day_bags, (_A, _S), query=("site_id",)),
    Route("POST", _BAGS, daybags.post_day_bag, (_A,), daybags.DayBagIn, (201,)),
    Route("GET", _BAGS + "/conflicts", daybags.list_conflicts, (_A, _S), query=("site_id",)),
    Route("GET", _BAGS + "/identities", daybags.list_identities, (_A, _P)),
    Route("GET", _BAGS + "/{bag_id}", daybags.get_day_bag, (_A,)),
    Route("POST", _BAGS + "/{bag_id}/certify", daybags.post_certificate, (_A,), daybags.CertifiedIn),
    Route("POST", _BAGS + "/{bag_id}/end", daybags.end_day_bag, (_A,), daybags.EndIn),
    Route("POST", _BAGS + "/{bag_id}/conflicts/{seq}", daybags.settle_day_bag, (_A,), daybags.DecisionIn),
    Route("GET", "/healthz", ops.healthz),
    Route("GET", "/readyz", ops.readyz),
    Route("GET", "/metrics", ops.get_metrics, media="text/plain"),
)


def add_routes(application: web.Application) -> None:
    """Add every route, and `/openapi.json`."""
    document = openapi_document(ROUTES)

    async def get_openapi(request: web.Request) -> web.Response:
        return web.json_response(document)

    for route in ROUTES:
        path = route.path.replace("{dose_id}", "{dose_id:.+}") if route.path == "/v1/doses/{dose_id}" else route.path
        path = path.replace("{dose_id}/", "{dose_id:.+}/").replace("{uvci}", "{uvci:.+?}")
        application.router.add_route(route.method, path, route.handler)
    application.router.add_get("/openapi.json", get_openapi)
