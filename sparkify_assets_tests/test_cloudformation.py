"""The CloudFormation template: linted, made and deleted on moto, and what its roles may do.

moto has no Redshift Serverless, runs no function and knows no policy of a bucket: `Unknown` stands
for these resources. It shows what they are asked for, and not whether AWS would accept it.
"""

import ast
import json
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import boto3
import jmespath
import pytest
import yaml
from botocore.stub import Stubber
from moto import mock_aws
from moto.core.common_models import CloudFormationModel

from sparkify_assets.settings import RedshiftSettings, Settings
from sparkify_assets_tests.processes import ROOT
from sparkify_assets_tests.s3_server import environment

PATH = ROOT / "deploy" / "cloudformation.yaml"
NAME = "sparkify"
HOST = "sparkify.123456789012.us-east-1.redshift-serverless.amazonaws.com"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:redshift!sparkify-sparkify-aBcDeF"
WORKGROUP = "arn:aws:redshift-serverless:us-east-1:123456789012:workgroup/1"
SERVICE = {
    "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/sparkify_assets:1",
    "HistoryHost": "history.example.com",
    "HistorySecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:history-aBcDeF",
}


@cache
def template() -> dict[str, Any]:
    from cfnlint.decode.cfn_yaml import loads  # only here: it takes seconds

    read: dict[str, Any] = json.loads(json.dumps(loads(PATH.read_text())))
    return read


class Unknown(CloudFormationModel):
    """A resource that moto does not know: what was asked for, and whether it is still there."""

    there: ClassVar[dict[str, dict[str, Any]]] = {}
    answers: ClassVar[dict[str, str]] = {
        "Workgroup.Endpoint.Address": HOST,
        "Workgroup.WorkgroupArn": WORKGROUP,
        "Namespace.NamespaceArn": "arn:aws:redshift-serverless:us-east-1:123456789012:namespace/1",
        "SecretArn": SECRET,
    }

    def __init__(self, name: str) -> None:
        self.physical_resource_id = name

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, *_: Any, **__: Any
    ) -> "Unknown":
        cls.there[resource_name.split("-")[1]] = cloudformation_json["Properties"]
        return cls(resource_name)

    @classmethod
    def delete_from_cloudformation_json(cls, resource_name: str, *_: Any, **__: Any) -> None:
        del cls.there[resource_name.split("-")[1]]

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in cls.answers

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return self.answers[attribute_name]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account with nothing but its first network."""
    from moto.cloudformation import parsing  # only here: it takes seconds

    for name, value in environment("").items():
        if value:
            monkeypatch.setenv(name, value)
    known = parsing.resource_class_from_type

    def model_of(kind: str) -> Any:
        return Unknown if kind.startswith("Custom::") else known(kind) or Unknown

    monkeypatch.setattr(parsing, "resource_class_from_type", model_of)
    clean = parsing.clean_json

    def without_no_value(value: Any, resources: Any) -> Any:  # which moto leaves in lists
        cleaned = clean(value, resources)
        return [v for v in cleaned if v is not None] if isinstance(cleaned, list) else cleaned

    monkeypatch.setattr(parsing, "clean_json", without_no_value)
    Unknown.there.clear()
    with mock_aws():
        yield boto3.client("cloudformation")


def make(cloud: Any, **parameters: str) -> dict[str, Any]:
    """Makes the stack; returns its description."""
    ec2 = boto3.client("ec2")
    parameters |= {
        "VpcId": ec2.describe_vpcs()["Vpcs"][0]["VpcId"],
        "SubnetIds": ",".join(s["SubnetId"] for s in ec2.describe_subnets()["Subnets"][:3]),
    }
    cloud.create_stack(
        StackName=NAME,
        TemplateBody=json.dumps(template()),  # of YAML it splits an attribute at every point
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
    )
    stack: dict[str, Any] = cloud.describe_stacks()["Stacks"][0]
    return stack


def left() -> dict[str, int]:
    """How much there is of what the stack makes."""
    iam, s3, ecs = boto3.client("iam"), boto3.client("s3"), boto3.client("ecs")
    return {
        "buckets": len(s3.list_buckets()["Buckets"]),
        "roles": len(iam.list_roles()["Roles"]),
        "policies": len(iam.list_policies(Scope="Local")["Policies"]),
        "groups": len(boto3.client("ec2").describe_security_groups()["SecurityGroups"]),
        "logs": len(boto3.client("logs").describe_log_groups()["logGroups"]),
        "functions": len(boto3.client("lambda").list_functions()["Functions"]),
        "clusters": len(ecs.list_clusters()["clusterArns"]),
        "unknown": len(Unknown.there),
    }


def test_the_linter_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([linter, PATH], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("parameters", [{}, SERVICE], ids=["warehouse", "service"])
def test_it_is_made_and_deleted(cloud: Any, parameters: dict[str, str]) -> None:
    before = left()
    assert make(cloud, **parameters)["StackStatus"] == "CREATE_COMPLETE"
    now = left()
    assert Unknown.there.keys() == {"Namespace", "Workgroup", "Limit", "WorkBucketPolicy"}
    assert {name for name in now if now[name] == before[name]} == (
        set() if parameters else {"clusters"}
    )
    cloud.delete_stack(StackName=NAME)
    forgotten = {"policies", "clusters"}  # which moto does not delete
    assert {n: left()[n] for n in now if n not in forgotten} == {
        n: before[n] for n in now if n not in forgotten
    }


def test_the_outputs_are_our_variables(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command of the document prints is a `.env` that the settings accept."""
    make(cloud)
    text = (ROOT / "docs" / "deployment.md").read_text()
    [query] = re.findall(r'--query "(.*?)"', text)
    lines = [line for [line] in jmespath.search(query, cloud.describe_stacks())]
    for line in lines:
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    assert len(lines) == 7
    settings, redshift = Settings.from_environment(), RedshiftSettings.from_environment()
    [bucket] = [b["Name"] for b in boto3.client("s3").list_buckets()["Buckets"]]
    assert (settings.target, settings.s3_work) == ("redshift", f"s3://{bucket}/work")
    assert (redshift.host, redshift.secret, redshift.region) == (HOST, SECRET, "us-east-1")
    [role] = [r for r in boto3.client("iam").list_roles()["Roles"] if "CopyRole" in r["RoleName"]]
    assert redshift.copy_role == role["Arn"]


def statements(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Every action with every resource that a policy allows."""
    found = set()
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        actions, resources = (
            [statement[name]] if isinstance(statement[name], str) else statement[name]
            for name in ("Action", "Resource")
        )
        found |= {(action, resource) for action in actions for resource in resources}
    return found


@pytest.mark.parametrize("source", ["", "listening-data"])
def test_roles_may_do_what_the_document_says_and_no_more(cloud: Any, source: str) -> None:
    make(cloud, SourceBucket=source)
    [bucket] = [b["Name"] for b in boto3.client("s3").list_buckets()["Buckets"]]
    text = (ROOT / "docs" / "redshift.md").read_text()
    text = text.replace("BUCKET", bucket).replace("FOLDER", "work")
    copying, running = (
        statements(json.loads(block))
        for block in re.findall(r'^ +(\{"Version".*?\]\})\n', text, re.M | re.S)
    )
    iam = boto3.client("iam")
    [role] = [r for r in iam.list_roles()["Roles"] if "CopyRole" in r["RoleName"]]
    found = iam.get_role_policy(RoleName=role["RoleName"], PolicyName="work-files")
    # moto makes it the text of a Python dict
    assert statements(ast.literal_eval(found["PolicyDocument"])) == copying
    role = iam.get_role(RoleName=role["RoleName"])["Role"]
    [trust] = role["AssumeRolePolicyDocument"]["Statement"]
    assert set(trust["Principal"]["Service"]) == {
        "redshift.amazonaws.com",
        "redshift-serverless.amazonaws.com",
    }
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    [policy] = iam.list_policies(Scope="Local")["Policies"]
    version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId="v1")["PolicyVersion"]
    reading = {
        (action, f"arn:aws:s3:::{source}{rest}")
        for action in ("s3:GetObject", "s3:ListBucket")
        for rest in ("", "/*")
    }
    assert statements(version["Document"]) == (
        running | {("secretsmanager:GetSecretValue", SECRET)} | (reading if source else set())
    )


def test_the_bucket_is_private_encrypted_and_clears_up(cloud: Any) -> None:
    make(cloud)
    s3 = boto3.client("s3")
    [bucket] = [b["Name"] for b in s3.list_buckets()["Buckets"]]
    [rule] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    asked = template()["Resources"]["WorkBucket"]["Properties"]  # moto does not do all of it
    assert [*asked["PublicAccessBlockConfiguration"].values()] == [True] * 4
    [rule] = asked["LifecycleConfiguration"]["Rules"]
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", 7)
    policy = Unknown.there["WorkBucketPolicy"]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert policy["Bucket"] == bucket
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]


def test_redshift_is_closed_and_limited(cloud: Any) -> None:
    make(cloud, DailyRpuHours="5")
    workgroup, namespace = Unknown.there["Workgroup"], Unknown.there["Namespace"]
    assert workgroup["PubliclyAccessible"] in (False, "false")
    assert namespace["ManageAdminPassword"] in (True, "true")
    assert "AdminUserPassword" not in namespace
    assert Unknown.there["Limit"]["RpuHours"] in (5, "5")
    groups = boto3.client("ec2").describe_security_groups(GroupIds=workgroup["SecurityGroupIds"])
    assert groups["SecurityGroups"][0]["IpPermissions"] == []


def test_the_service_starts_what_compose_starts() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    containers = template()["Resources"]["Task"]["Properties"]["ContainerDefinitions"]
    assert [c["Name"] for c in containers] == ["code", "web", "daemon", "retention"]
    for container in containers:
        service = services[container["Name"]]
        assert container["Command"] == [
            word.replace("0.0.0.0", "127.0.0.1") for word in service["command"]
        ]
        check = container.get("HealthCheck", {"Command": None})
        assert check["Command"] == service["healthcheck"].get("test")
        given = {pair["Name"] for pair in container["Environment"] + container["Secrets"]}
        elsewhere = {"TMPDIR", "DAGSTER_CODE_HOST"}  # of the image: this host
        assert given >= service["environment"].keys() - elsewhere


RESOURCE = {"Workgroup": WORKGROUP, "Namespace": NAME, "RpuHours": "16"}
RULE = {"amount": 16, "breachAction": "deactivate"}
NEW = {
    "resourceArn": WORKGROUP,
    "usageType": "serverless-compute",
    "period": "daily",
    **RULE,
}
MADE = {"usageLimit": {"usageLimitId": "limit-2"}}
TOLD = ("get_namespace", {"namespace": {"adminPasswordSecretArn": SECRET}}, {"namespaceName": NAME})
OLD = {"PhysicalResourceId": "limit-1"}
MOVED = {"OldResourceProperties": RESOURCE | {"Workgroup": "another"}}


@pytest.mark.parametrize(
    ("event", "calls", "answer"),
    [
        (
            {"RequestType": "Create"},
            [("create_usage_limit", MADE, NEW), TOLD],
            ("SUCCESS", {"SecretArn": SECRET}, "limit-2"),
        ),
        (
            {"RequestType": "Update", **OLD, "OldResourceProperties": RESOURCE},
            [("update_usage_limit", {}, {"usageLimitId": "limit-1", **RULE}), TOLD],
            ("SUCCESS", {"SecretArn": SECRET}, "limit-1"),
        ),
        (
            {"RequestType": "Update", **OLD, **MOVED},
            [("create_usage_limit", MADE, NEW), TOLD],
            ("SUCCESS", {"SecretArn": SECRET}, "limit-2"),
        ),
        (
            {"RequestType": "Delete", **OLD},
            [("delete_usage_limit", {}, {"usageLimitId": "limit-1"})],
            ("SUCCESS", {}, "limit-1"),
        ),
        (
            {"RequestType": "Delete", **OLD},
            [("delete_usage_limit", "ResourceNotFoundException", {})],
            ("SUCCESS", {}, "limit-1"),
        ),
        (
            {"RequestType": "Delete", **OLD},
            [("delete_usage_limit", "InternalServerException", {})],
            ("FAILED", {}, "limit-1"),
        ),
        (
            {"RequestType": "Create"},
            [("create_usage_limit", "ServiceQuotaExceededException", {})],
            ("FAILED", {}, "none"),
        ),
        ({"RequestType": "Delete", "PhysicalResourceId": "none"}, [], ("SUCCESS", {}, "none")),
    ],
)
def test_the_function_of_the_limit(
    event: dict[str, Any],
    calls: list[tuple[str, Any, dict[str, Any]]],
    answer: tuple[str, dict[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its calls are held against botocore's own description of the service."""
    client = boto3.client("redshift-serverless", "us-east-1")
    sent: list[tuple[Any, ...]] = []
    response = types.ModuleType("cfnresponse")
    vars(response).update(
        SUCCESS="SUCCESS", FAILED="FAILED", send=lambda *a, **_: sent.append(a[2:])
    )
    monkeypatch.setitem(sys.modules, "cfnresponse", response)
    monkeypatch.setattr(boto3, "client", lambda service: client)
    code = template()["Resources"]["LimitFunction"]["Properties"]["Code"]["ZipFile"]
    assert len(code) <= 4096  # AWS takes no more in a template
    scope: dict[str, Any] = {}
    exec(code, scope)
    with Stubber(client) as stub:
        for method, returned, expected in calls:
            if isinstance(returned, str):
                stub.add_client_error(method, returned)
            else:
                stub.add_response(method, returned, expected)
        scope["handler"]({"ResourceProperties": RESOURCE, **event}, None)
        stub.assert_no_pending_responses()
    assert sent == [answer]
