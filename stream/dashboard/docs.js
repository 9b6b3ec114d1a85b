// The interface as a page, drawn by Swagger UI from what the gateway says of itself.

import { token } from "./api.js";

function withToken(request) {
  if (token()) request.headers.Authorization = `Bearer ${token()}`;
  return request;
}

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null,
  requestInterceptor: withToken,
});
