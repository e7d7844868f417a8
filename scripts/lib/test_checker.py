"""The judge has teeth: every kind of planted fault is found, and a clean world is clean.

    python3 -B scripts/lib/test_checker.py
"""

import copy
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import checker  # noqa: E402
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


if __name__ == "__main__":
    unittest.main()
