// The interface as a page, drawn by Swagger UI from what the gateway says of itself.

SwaggerUIBundle({ url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null });
