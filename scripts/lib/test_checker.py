"""The judge has teeth: every kind of planted fault is found, and a clean world is clean.

    python3 -B scripts/lib/test_checker.py
"""

import copy
import random
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import checker  # noqa: E402
from crowd import Crowd, Shape  # noqa: E402
from history import Request  # noqa: E402
from source import read_rows  # noqa: E402

FILE = """\ufeffEmail,First Name,external_id,org_external_id,org_name,role_slugs
ann@example.com,Ann,e1,acme,Acme,

bob@example.com,"Bo
b",e2,acme,Acme,admin
 ANN@example.com,Ann,e1,beta,Beta,"[""member"",""admin""]"
nobody,No,e4,acme,Acme,
"""


def user(number, email, name, external_id):
    return {"id": f"user_{number}", "email": email, "first_name": name, "external_id": external_id}


def member(number, who, where, *roles):
    return {
        "id": f"om_{number}",
        "user_id": f"user_{who}",
        "organization_id": f"org_{where}",
        "status": "active",
        "roles": [{"slug": role} for role in roles],
    }


def world():
    return {
        "users": [user(1, "Ann@example.com", "Ann", "e1"), user(2, "bob@example.com", "Bo\nb", "e2")],
        "organizations": [
            {"id": "org_a", "external_id": "acme", "name": "Acme"},
            {"id": "org_b", "external_id": "beta", "name": "Beta"},
        ],
        "memberships": [
            member(1, 1, "a", "member"),
            member(2, 2, "a", "admin"),
            member(3, 1, "b", "admin", "member"),
        ],
    }


def result(row, line, email, state, who="", where="", om="", step="", code=""):
    return {
        "row": str(row),
        "line": str(line),
        "email": email,
        "state": state,
        "step": step,
        "user_id": who and f"user_{who}",
        "org_id": where and f"org_{where}",
        "membership_id": om and f"om_{om}",
        "error_code": code,
    }


def results():
    return [
        result(1, 2, "ann@example.com", "created", 1, "a", 1),
        result(2, 4, "bob@example.com", "recovered", 2, "a", 2),
        result(3, 6, "ANN@example.com", "merged", 1, "b", 3),
        result(4, 7, "nobody", "failed", step="validation", code="email_invalid"),
    ]


class Judging(unittest.TestCase):
    def setUp(self):
        with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8") as file:
            file.write(FILE)
            file.flush()
            self.rows = read_rows(file.name)

    def judge(self, plant):
        told, dump = results(), world()
        plant(told, dump)
        return checker.judge(self.rows, told, dump)

    def found(self, kind, plant):
        verdict = self.judge(plant)
        self.assertIn(kind, verdict.counts, verdict.words())

    def test_a_clean_world_is_clean(self):
        verdict = self.judge(lambda told, dump: None)
        self.assertTrue(verdict.clean, verdict.words())

    def test_reports_that_do_not_match_the_file(self):
        self.found("row not reported", lambda told, dump: told.pop(1))
        self.found("row reported twice", lambda told, dump: told.append(copy.copy(told[0])))
        self.found("wrong line", lambda told, dump: told[2].update(line="5"))
        self.found("wrong email", lambda told, dump: told[0].update(email="eve@example.com"))

    def test_loss_and_duplicates(self):
        self.found("lost user", lambda told, dump: dump["users"].pop(1))
        self.found("falsely succeeded (no user)", lambda told, dump: dump["users"].pop(1))
        twin = user(9, "ANN@EXAMPLE.COM", "Ann", None)
        self.found("duplicated user", lambda told, dump: dump["users"].append(twin))
        pair = member(9, 2, "a", "admin")
        self.found("duplicated membership", lambda told, dump: dump["memberships"].append(pair))
        acme = {"id": "org_x", "external_id": "acme", "name": "Acme"}
        self.found("duplicated organization", lambda told, dump: dump["organizations"].append(acme))
        self.found("lost (still pending)", lambda told, dump: told[0].update(state="pending"))

    def test_false_failures(self):
        def fail(told, step):
            told[1].update(state="failed", step=step, error_code="server_error")

        user_there = "falsely failed (user is there)"
        self.found(user_there, lambda told, dump: fail(told, "user"))
        membership_there = "falsely failed (membership is there)"
        self.found(membership_there, lambda told, dump: fail(told, "membership"))
        self.found("parked", lambda told, dump: told[1].update(state="parked", step="user"))

    def test_false_successes_and_wrong_ids(self):
        gone = "falsely succeeded (no active membership)"
        self.found(gone, lambda told, dump: dump["memberships"].pop(2))
        self.found(gone, lambda told, dump: dump["memberships"][0].update(status="inactive"))
        self.found("wrong user_id", lambda told, dump: told[0].update(user_id="user_2"))
        self.found("wrong org_id", lambda told, dump: told[0].update(org_id="org_b"))
        self.found("wrong membership_id", lambda told, dump: told[0].update(membership_id="om_2"))

    def test_what_nobody_asked_for(self):
        eve = user(7, "eve@example.com", "Eve", None)
        self.found("extra user", lambda told, dump: dump["users"].append(eve))
        extra = member(7, 2, "b", "member")
        self.found("membership extra", lambda told, dump: dump["memberships"].append(extra))
        lone = {"id": "org_z", "external_id": "zeta", "name": "Zeta"}
        self.found("orphan organization", lambda told, dump: dump["organizations"].append(lone))

    def test_wrong_attributes_roles_and_names(self):
        self.found("wrong attribute", lambda told, dump: dump["users"][0].update(first_name="A"))
        role = [{"slug": "member"}]
        self.found("wrong role", lambda told, dump: dump["memberships"][1].update(roles=role))
        name = "wrong organization name"
        self.found(name, lambda told, dump: dump["organizations"][0].update(name="Beta"))

    def test_people_who_were_there_before(self):
        eve, before = user(7, "eve@example.com", "Eve", None), {"organizations": [], "memberships": []}
        dump = world()
        dump["users"].append(eve)
        verdict = checker.judge(self.rows, results(), dump, before={**before, "users": [eve]})
        self.assertTrue(verdict.clean, verdict.words())


def request(received, status=201, method="POST", retry_after=None, entity=None):
    path = "/user_management/users"
    answered = received + 0.01
    return Request(method, path, received, answered, status, status == 201, retry_after, entity)


class Traffic(unittest.TestCase):
    def test_windows_slide(self):
        steady = [request(number / 8) for number in range(100)]
        limit = [(8, 1.0, lambda one: one.write)]
        self.assertTrue(checker.judge_traffic(steady, limit).clean)
        burst = steady + [request(5.0625)]
        self.assertIn("rate exceeded", checker.judge_traffic(burst, limit).counts)

    def test_pauses_are_global(self):
        throttled = request(1.0, 429, retry_after=2)
        on_the_way, inside, after = request(1.09), request(1.5), request(3.02)
        kind = "request inside a pause"
        self.assertTrue(checker.judge_traffic([throttled, on_the_way, after]).clean)
        self.assertEqual(checker.judge_traffic([throttled, inside, after]).counts[kind], 1)
        at_once = request(1.0, 429, retry_after=0)
        self.assertTrue(checker.judge_traffic([at_once, inside]).clean)
        longer = [request(1.0, 429, retry_after=5), request(1.05, 429, retry_after=1)]
        self.assertEqual(checker.judge_traffic([*longer, request(4.0)]).counts[kind], 1)

    def test_one_create_per_entity(self):
        twice = [request(1.0, entity="user a"), request(2.0, entity="user a")]
        self.assertIn("created twice", checker.judge_traffic(twice).counts)
        refused = [request(1.0, entity="user a"), request(2.0, 400, entity="user a")]
        self.assertTrue(checker.judge_traffic(refused).clean)


def fate(*states, step=None):
    return checker.Fate(frozenset(states), step)


FATES = {
    1: fate("created", "recovered"),
    2: fate("created", "recovered"),
    3: fate("merged"),
    4: fate("failed", step="validation"),
}


class Fates(unittest.TestCase):
    def found(self, kind, plant, fates=FATES):
        told, verdict = results(), checker.Verdict()
        plant(told)
        checker.judge_fates(told, fates, verdict)
        self.assertEqual(dict(verdict.counts), {kind: 1} if kind else {}, verdict.words())

    def test_what_had_to_become_of_each_row(self):
        self.found(None, lambda told: None)
        self.found("lost (still pending)", lambda told: told[0].update(state="pending"))
        failed = "falsely failed (nothing was wrong with it)"
        self.found(failed, lambda told: told[0].update(state="failed", step="user"))
        self.found(failed, lambda told: told[2].update(state="parked", step="user"))
        succeeded = "falsely succeeded (it had to be refused)"
        self.found(succeeded, lambda told: told[3].update(state="created", step=""))
        self.found("wrong state", lambda told: told[3].update(step="user"))
        self.found("wrong state", lambda told: told[2].update(state="created"))
        self.found("wrong state", lambda told: told[0].update(state="skipped"))

    def test_whose_a_user_is(self):
        self.found("ours taken for somebody else's", lambda told: told[1].update(state="linked"))
        there = FATES | {2: fate("linked")}
        self.found("somebody else's claimed as ours", lambda told: None, there)
        self.found(None, lambda told: told[1].update(state="linked"), there)


class Headings(unittest.TestCase):
    def test_every_kind_is_counted_somewhere(self):
        wanted = {
            "lost user": "lost",
            "lost (still pending)": "lost",
            "membership missing": "lost",
            "duplicated user": "twice",
            "created twice": "twice",
            "falsely failed (user is there)": "falsely failed",
            "parked": "falsely failed",
            "falsely succeeded (no user)": "falsely succeeded",
            "orphan organization": "orphan organizations",
            "rate exceeded": "windows over the limit",
            "ours taken for somebody else's": "other",
            "wrong role": "other",
        }
        self.assertEqual({kind: checker.heading(kind) for kind in wanted}, wanted)
        self.assertEqual(set(wanted.values()), {*checker.HEADINGS, "other"})


class Accounts(unittest.TestCase):
    def found(self, kind, plant):
        summary = {
            "rows": {"total": 4, "created": 1, "recovered": 1, "merged": 1, "failed": 1, "linked": 0},
            "organizations": {"created": 2},
            "memberships": {"created": 2, "recovered": 1, "existing": 0, "reactivated": 0},
        }
        verdict = checker.Verdict()
        plant(summary)
        nobody = {"users": [], "organizations": [], "memberships": []}
        checker.judge_accounts(summary, results(), world(), nobody, verdict)
        self.assertEqual(set(verdict.counts), {kind} - {None}, verdict.words())

    def test_sums_agree(self):
        self.found(None, lambda told: None)
        self.found("miscounted rows", lambda told: told["rows"].update(total=5))
        self.found("miscounted rows", lambda told: told["rows"].update(linked=1))
        organizations = "miscounted organizations"
        self.found(organizations, lambda told: told["organizations"].update(created=1))
        memberships = "miscounted memberships"
        self.found(memberships, lambda told: told["memberships"].update(existing=1))
        self.found(memberships, lambda told: told["memberships"].update(created=4, recovered=-1))


class Crowds(unittest.TestCase):
    """What `chaos` expects follows from the file alone."""

    def crowd(self, **shape):
        return Crowd(random.Random(1), Shape(rows=300, orgs=5, again=0.3, **shape))

    def test_every_row_has_a_fate_and_seeds_repeat(self):
        one, two = (self.crowd(bad=0.1, there=0.2) for _ in range(2))
        self.assertEqual(one.records, two.records)
        self.assertEqual(sorted(one.fates), list(range(1, 301)))
        states = {state for fate in one.fates.values() for state in fate.states}
        self.assertEqual(states, {"created", "recovered", "merged", "linked", "failed"})

    def test_nobody_is_made_twice(self):
        crowd = self.crowd(bad=0.1, there=0.2)
        there = {body["email"].lower() for body, _, _ in crowd.there}
        made = [
            cells["email"].strip().lower()
            for number, cells in enumerate(crowd.records, 1)
            if "created" in crowd.fates[number].states
        ]
        self.assertEqual(len(made), len(set(made)))
        self.assertFalse(there & set(made))

    def test_policies(self):
        for policy, state in (("link", "linked"), ("skip", "skipped"), ("fail", "failed")):
            crowd = self.crowd(there=0.2, policy=policy)
            found = sum(state in fate.states for fate in crowd.fates.values())
            self.assertGreater(found, 10, policy)


if __name__ == "__main__":
    unittest.main()
