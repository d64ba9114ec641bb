# An agent of any party: `docker run ... agent bank.toml`, with the party's own folder mounted at /party.
# Settings, keys and tables are mounted; none of them is in the image.
# docs/operations.md says how it was built and run: by buildah, on Debian's Python. A Docker engine was not at hand.

ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY agents agents
COPY broker broker
COPY docs docs
COPY examples examples
COPY mpc mpc
COPY schemas schemas
COPY tables tables
COPY tercet tercet
RUN python3 -m venv /installed && /installed/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM ${BASE}
COPY --from=build /installed /installed
ENV PATH=/installed/bin:$PATH
# A key must be readable for its owner alone, so run as whoever owns the mounted folder: `user:` or `--user`.
RUN useradd --uid 10001 --no-create-home tercet && install -d -o tercet -g tercet /party
USER tercet
WORKDIR /party
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["tercet"]
CMD ["--help"]
