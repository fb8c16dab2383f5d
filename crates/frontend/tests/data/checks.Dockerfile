FROM alpine AS One
from busybox as one
ENV old form
ENV API_KEY=1
WORKDIR rel
RUN echo $TYPO
CMD a
CMD ["b"]
EXPOSE 127.0.0.1:80:80 53/UDP
