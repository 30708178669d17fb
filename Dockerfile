# The operator's image.
#
#   docker build -t registry.example.com/voicekeys/operator:0.1.0 .
#   buildah bud --isolation=chroot -t voicekeys/operator:0.1.0 --build-arg BASE=my/python:3.13 .
#
# BASE may be any image with Python 3.11 or later, its venv module, and a libc that the wheels fit (manylinux).
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/voicekeys
WORKDIR /src
# The dependencies first: they change less often than the code, and their layer is kept. Each wheel's bytes are checked
# against the pinned hash; none is built from source, so that no compiler is needed and no set-up code runs.
COPY deploy/requirements/operator.txt deploy/requirements/
RUN /opt/voicekeys/bin/pip install --require-hashes --only-binary=:all: -r deploy/requirements/operator.txt
# Our own code needs no build, and so no build tool that nobody pinned: it is copied, with a script that starts it.
COPY operator/voicekeys /src/voicekeys
RUN site="$(/opt/voicekeys/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')" \
 && cp -r /src/voicekeys "$site/voicekeys" \
 && printf '%s\n' '#!/opt/voicekeys/bin/python -P' 'import sys' 'from voicekeys.__main__ import main' 'sys.exit(main())' \
      > /opt/voicekeys/bin/voicekeys-operator \
 && chmod 0755 /opt/voicekeys/bin/voicekeys-operator \
 && /opt/voicekeys/bin/python -m compileall -q "$site" \
 && /opt/voicekeys/bin/pip uninstall -q -y pip

FROM ${BASE}
LABEL org.opencontainers.image.title="voicekeys operator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="Changes the API keys of voice agents on Kubernetes, from Vault, without cutting a call."
COPY --from=build /opt/voicekeys /opt/voicekeys
COPY LICENSE /usr/share/doc/voicekeys/LICENSE
# The root file system is read-only in deploy/: nothing is written beside /tmp.
ENV PATH=/opt/voicekeys/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
# By number: Kubernetes can then see that it is not root (runAsNonRoot).
USER 65532:65532
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["voicekeys-operator"]
