"""Signs a request as AWS's own library does, and says whether the signature is the one that it has.

Standard input: JSON with method, url, headers (names in lower case), body, access, secret. Standard output: "same", or what differs.
"""

import hashlib
import json
import re
import sys

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

told = json.load(sys.stdin)
form = r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w+)"
access, region, service, signed, signature = re.fullmatch(form, told["headers"]["authorization"]).groups()
headers = {name: told["headers"][name] for name in signed.split(";")}
body = told["body"].encode()
if headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
    sys.exit(print("another hash of the body"))
request = AWSRequest(told["method"], told["url"], headers=headers, data=body)
request.context["timestamp"] = headers["x-amz-date"]
auth = SigV4Auth(Credentials(told["access"], told["secret"], headers.get("x-amz-security-token")), service, region)
wanted = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
print("same" if (access, signature) == (told["access"], wanted) else f"{signature} where {wanted} is right")
