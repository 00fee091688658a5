# Cascade Studio on a server of your own, computing on its CPU:
#
#   docker build -t cascade-studio .
#   docker run --detach --publish 127.0.0.1:7860:7860 --volume cascade-studio:/data cascade-studio
#
# Pictures, and what is fetched from the hub, are kept in the volume. Nothing runs as root.
FROM python:3.12-slim

WORKDIR /app
# PyTorch's own index has a build without CUDA, which is gigabytes smaller.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements.txt ./
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "$(grep '^torch==' requirements.txt)" \
    && pip install --no-cache-dir -r requirements.txt

RUN useradd --uid 1000 --create-home studio \
    && install --directory --owner=studio --group=studio /data
COPY . ./

USER studio
ENV CASCADE_HOST=0.0.0.0 \
    CASCADE_PORT=7860 \
    CASCADE_DATA_DIR=/data/studio \
    HF_HOME=/data/hub \
    PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['CASCADE_PORT'] + '/health', timeout=8)"]
CMD ["python", "app.py"]
